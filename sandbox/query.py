"""A request's parameters, read as strictly as Stripe reads them, and the errors that it answers with."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from fincon.sandbox.model import Json

PAGING = ("limit", "starting_after", "ending_before", "expand")
INDEXED = re.compile(r"\[\d*\]$")


class ApiError(Exception):
    """An answer that is an error, in Stripe's envelope."""

    def __init__(self, status: int, message: str, **details: str) -> None:
        super().__init__(message)
        self.status = status
        self.error: Json = {"message": message, "type": "invalid_request_error", **details}

    def body(self) -> Json:
        """Give the envelope."""
        if "code" in self.error:
            self.error["doc_url"] = (
                f"https://docs.stripe.com/error-codes/{self.error['code'].replace('_', '-')}"
            )
        return {"error": self.error}


def missing(what: str, name: str, param: str, status: int = 400) -> ApiError:
    """Give the error for an object that does not exist: 404 if the path names it, 400 if a parameter does."""
    return ApiError(status, f"No such {what}: '{name}'", code="resource_missing", param=param)


class Query:
    """The parameters of one request. Unknown ones are refused; lists may be written `a[]=` or `a[0]=`."""

    def __init__(self, raw: bytes, allowed: Collection[str]) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        for key, value in parse_qsl(raw.decode("ascii", "replace"), keep_blank_values=True):
            name = INDEXED.sub("", key)
            if name not in allowed:
                message = f"Received unknown parameter: {name}"
                raise ApiError(400, message, code="parameter_unknown", param=name)
            if name != key:
                self.lists.setdefault(name, []).append(value)
            else:
                self.values[name] = value

    def get(self, name: str) -> str | None:
        """Give a parameter's value; an empty one counts as none."""
        return self.values.get(name) or None

    def required(self, name: str) -> str:
        """Give a parameter that the endpoint cannot do without."""
        value = self.get(name)
        if value is None:
            raise ApiError(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
        return value

    def integer(self, name: str) -> int | None:
        """Give a parameter that is a whole number."""
        value = self.get(name)
        if value is None:
            return None
        if not re.fullmatch(r"-?\d{1,15}", value):
            message = f"Invalid integer: {value}"
            raise ApiError(400, message, code="parameter_invalid_integer", param=name)
        return int(value)

    def limit(self) -> int:
        """How many objects a page may hold."""
        limit = self.integer("limit")
        limit = 10 if limit is None else limit
        if not 1 <= limit <= 100:
            bound = "greater than or equal to 1" if limit < 1 else "less than or equal to 100"
            message = f"This value must be {bound} (it currently is '{limit}')."
            raise ApiError(400, message, code="parameter_invalid_integer", param="limit")
        return limit

    def cursors(self) -> tuple[str | None, str | None]:
        """Give the cursors `starting_after` and `ending_before`, of which only one may be given."""
        after, before = self.get("starting_after"), self.get("ending_before")
        if after and before:
            raise ApiError(
                400, "You may only specify one of these parameters: ending_before, starting_after."
            )
        return after, before

    def times(self, name: str) -> tuple[int, int]:
        """Give the first and last second that a filter such as `created[gte]` lets through."""
        exact = self.integer(name)
        if exact is not None:
            return exact, exact
        first, last = 0, 2**40
        for suffix, is_lower, shift in (
            ("gte", True, 0),
            ("gt", True, 1),
            ("lte", False, 0),
            ("lt", False, -1),
        ):
            bound = self.integer(f"{name}[{suffix}]")
            if bound is not None and is_lower:
                first = max(first, bound + shift)
            elif bound is not None:
                last = min(last, bound + shift)
        return first, last

    def expand(self, allowed: Collection[str], prefix: str = "") -> set[str]:
        """Give the paths to expand, without their prefix."""
        paths = {path.removeprefix(prefix) for path in self.lists.get("expand", ())}
        for path in paths - set(allowed):
            raise ApiError(400, f"This property cannot be expanded ({path}).", param="expand")
        return paths

    def page(self, positions: Mapping[str, int] | Any, length: int, what: str) -> tuple[range, bool]:
        """Give the positions that a page of a list holds, newest first, and whether there are more beyond it.

        `positions` gives, by `get`, the position of a cursor's object in the list.
        """
        limit = self.limit()
        after, before = self.cursors()
        cursor = after or before
        if cursor is None:
            return range(min(limit, length)), length > limit
        place = positions.get(cursor)
        if place is None or place >= length:
            raise missing(what, cursor, "starting_after" if after else "ending_before")
        if after:
            stop = min(place + 1 + limit, length)
            return range(place + 1, stop), stop < length
        start = max(0, place - limit)
        return range(start, place), start > 0


def times(*names: str) -> Sequence[str]:
    """Give the names of parameters that filter by time."""
    return [name + suffix for name in names for suffix in ("", "[gt]", "[gte]", "[lt]", "[lte]")]
