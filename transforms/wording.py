"""Say numbers, times and amounts as a person does."""

import json
import math
import re
from datetime import date
from decimal import Decimal
from typing import Any

from fincon.transforms.money import format_amount


def pluralize(count: int, what: str, many: str = "") -> str:
    """Return ``1 page``, ``1,234 pages``; ``many`` is the plural where it takes more than an s."""
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def duration(seconds: float) -> str:
    """Return about how long that is: ``40 s``, ``67 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:,.1f} h"


def format_value(value: Any, currency: object = None) -> str:
    """Return a value in one line: thousands apart, an amount with its currency's decimals, no digit lost, times in UTC."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)  # not 2,026 for a year
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        # Minor units or a count: with a currency's decimals they would read as an amount.
        return format_value(int(value))
    if isinstance(value, Decimal):
        return format_amount(value, currency if isinstance(currency, str) else "")
    if isinstance(value, date) or hasattr(value, "isoformat"):
        iso = value.isoformat(sep=" ", timespec="seconds") if hasattr(value, "date") else value.isoformat()
        return str(iso).replace("+00:00", "Z")
    if isinstance(value, list | dict):
        return nested_as_json(value)
    return re.sub(r"[\r\n\t]+", " ", str(value))


def nested_as_json(value: object) -> str:
    """Return a list, struct or map as JSON; keys, and what JSON has no word for, as text."""
    return json.dumps(_as_json(value), ensure_ascii=False)


def _as_json(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _as_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    if value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)
