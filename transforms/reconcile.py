"""Sums over raw pages by the plainest way there is, to compare with what went the long way into the lake."""

import json
from collections.abc import Iterable
from typing import Any

from transforms.envelope import Page

Sums = dict[str, tuple[int, int, int, int]]
"""Currency → accounts, and the sums of current, available and used, in minor units (a missing amount adds 0)."""


def last_balances(pages: Iterable[Page]) -> dict[str, tuple[int, dict[str, Any]]]:
    """Account → when its last balance was seen, and that balance as Stripe sent it. Accounts without one are left out."""
    seen: dict[str, tuple[int, dict[str, Any]]] = {}
    for header, body in pages:
        tree = json.loads(body)
        for account in tree.get("accounts", tree).get("data", ()):
            if not isinstance(account, dict) or not account.get("balance"):
                continue
            at = seen.get(account.get("id", ""), (0, {}))[0]
            if header.observed_at >= at:
                seen[account.get("id", "")] = (header.observed_at, account["balance"])
    return seen


def sums(balances: Iterable[dict[str, Any]]) -> Sums:
    """Per currency: how many accounts, and the sums of each map."""
    found: Sums = {}
    for balance in balances:
        maps = (
            balance.get("current") or {},
            (balance.get("cash") or {}).get("available") or {},
            (balance.get("credit") or {}).get("used") or {},
        )
        for currency in {*maps[0], *maps[1], *maps[2]}:
            accounts, *amounts = found.get(currency, (0, 0, 0, 0))
            current, available, used = (a + m.get(currency, 0) for a, m in zip(amounts, maps, strict=True))
            found[currency] = (accounts + 1, current, available, used)
    return found
