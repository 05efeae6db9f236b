"""Builds accounts, sessions and owners from their numbers."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from sandbox import traits
from sandbox.ids import ids, keyed, mix
from sandbox.ledger import Ledger
from sandbox.membership import Membership
from sandbox.model import Account, Amounts, Balance, Filters, Holder, Owner, Refresh, Session
from sandbox.schedule import (
    BALANCE,
    FEATURES,
    INSTITUTIONS,
    OWNERSHIP,
    TRANSACTION,
    Calendar,
    Feature,
    Schedule,
)
from sandbox.traits import Rolls


class Accounts:
    """Every object of one world (apart from transactions and events), by number and time."""

    def __init__(self, seed: int, accounts: int, sessions: int) -> None:
        self.key = seed.to_bytes(16, "big", signed=True)
        self.salt = keyed(seed, "accounts")
        self.ids = ids(seed)
        self.schedule = Schedule(seed, accounts)
        self.membership = Membership(seed, accounts, sessions)
        self.ledger = Ledger(seed, self.ids)
        self.holder = lru_cache(maxsize=256)(self._holder)  # the accounts of a page share sessions

    def rolls(self, index: int) -> Rolls:
        """Give an account's dice."""
        return Rolls._make(
            traits.UNPACK(blake2b(index.to_bytes(8, "big"), key=self.key, digest_size=48).digest())
        )

    def _holder(self, session: int) -> Holder | None:
        """Give the holder of the accounts that a session collects."""
        found = self.membership.holder_of(session)
        if found is None:
            return None
        kind, number = found
        if kind == "customer":
            return Holder(kind, self.ids.customer.encode(number))
        return Holder(kind, self.ids.holder_account.encode(number * 2 + (kind == "customer_account")))

    def permissions(self, session: int, rolls: Rolls) -> tuple[str, ...] | None:
        """Give what an account grants: what its session asked for, or [], or null."""
        if rolls.permissions % 32 < 2:
            return () if rolls.permissions % 32 else None
        return traits.PERMISSIONS[mix(session ^ self.salt) % len(traits.PERMISSIONS)]

    def refreshes(self, feature: Feature, index: int) -> bool:
        """Whether a feature of an account is ever refreshed."""
        rolls = self.rolls(index)
        return feature.permission in traits.live(
            self.permissions(self.membership.session_of(index), rolls), rolls
        )

    def account(self, index: int, time: int) -> Account:
        """Give an account as it is at a time."""
        rolls = self.rolls(index)
        calendar = self.schedule.calendar(index)
        session = self.membership.session_of(index)
        permissions = self.permissions(session, rolls)
        live = traits.live(permissions, rolls)
        status = calendar.link(time).status
        refreshes = [
            self._refresh(feature, calendar, rolls, time) if feature.permission in live else None
            for feature in FEATURES
        ]
        category, subcategory = traits.CATEGORIES[rolls.category % len(traits.CATEGORIES)]
        if rolls.odd_value % 128 == 0:
            category, subcategory = "crypto", "wallet"
        elif rolls.odd_value % 128 == 1 and status == "active":
            status = "under_review"
        forgotten = status == "disconnected" and rolls.kept % 2
        balance_as_of = None if forgotten else _last_success(calendar, BALANCE, refreshes[0], time)
        balance = None
        if balance_as_of is not None:
            balance = self._balance(calendar, rolls, category, balance_as_of)
        owned_as_of = _last_success(calendar, OWNERSHIP, refreshes[1], time)
        account = Account(
            number=index,
            id=self.ids.account.encode(index),
            created=calendar.created,
            holder=self.holder(session),
            institution_name=INSTITUTIONS[calendar.institution],
            display_name=traits.display_name(subcategory, rolls),
            last4=f"{rolls.last4 % 10_000:04}" if rolls.last4 % 12 else None,
            category=category,
            subcategory=subcategory,
            status=status,
            notice=traits.notice(rolls, time) if status == "active" else None,
            permissions=permissions,
            subscriptions=traits.SUBSCRIPTIONS[rolls.subscriptions % len(traits.SUBSCRIPTIONS)],
            payment_methods=traits.METHODS[rolls.methods % len(traits.METHODS)],
            numbers=traits.numbers(rolls, time),
            ownership=None if owned_as_of is None else self.ids.ownership.encode(index),
            balance=balance,
            refreshes=(refreshes[0], refreshes[1], refreshes[2]),
            unknown={},
            absent=rolls.absent,
        )
        if rolls.unknown % 50 == 0:
            return account._replace(unknown=traits.unknown(account, rolls.variant))
        return account

    def _refresh(self, feature: Feature, calendar: Calendar, rolls: Rolls, time: int) -> Refresh | None:
        state = calendar.state(feature, time)
        if state is None:
            return None
        status, attempt = state
        available: int | None = attempt + (feature.cooldown if status == "succeeded" else 3600)
        if status == "pending" or rolls.next_at % 40 == 0:
            available = None
        name = self.ledger.refresh_id(calendar.index, attempt) if feature is TRANSACTION else None
        return Refresh(status, attempt, available, name)

    def _balance(self, calendar: Calendar, rolls: Rolls, category: str, as_of: int) -> Balance:
        streams = self.ledger.streams(calendar)
        base = traits.base(rolls, category) if streams else 0
        main = traits.currency(rolls)
        current = {main: base + (streams.posted(as_of) if streams else 0)}
        if rolls.more % 10 == 0:
            for extra in traits.MORE_CURRENCIES[rolls.more // 10 % len(traits.MORE_CURRENCIES)]:
                current.setdefault(extra, mix(calendar.dice ^ as_of ^ len(current)) % 9_000_001 - 1_000_000)
        if rolls.more % 97 == 1:
            current = {}
        available: Amounts | None = None
        used: Amounts | None = None
        kind = "credit" if category == "credit" else "cash"
        if kind == "credit":
            used = {name: -amount for name, amount in current.items()}
        elif category == "investment" and rolls.variant % 2:
            kind = "investment"
        elif rolls.available % 8:
            available = {main: base + (streams.booked(as_of) if streams else 0)} if current else {}
        amounts = available or used
        if rolls.available % 31 == 1 and amounts:
            amounts["cad" if main != "cad" else "usd"] = 12_345
        return Balance(kind, as_of, current, available, used, rolls.shape)

    def owners(self, index: int, time: int) -> list[Owner]:
        """Give an account's owners, none to three."""
        refreshed = self.schedule.calendar(index).success_before(OWNERSHIP, time)
        if refreshed is None or not self.refreshes(OWNERSHIP, index):
            return []
        rolls = self.rolls(index)
        return [
            self._owner(index, place, rolls, refreshed)
            for place in range((1, 1, 1, 2, 2, 3, 0, 1)[rolls.owners % 8])
        ]

    def _owner(self, index: int, place: int, rolls: Rolls, refreshed: int) -> Owner:
        dice = rolls.person + place * 4_099
        first, last = traits.FIRST[dice % 8], traits.LAST[dice // 8 % 8]
        return Owner(
            id=self.ids.owner.encode(index * 4 + place),
            account=self.ids.account.encode(index),
            ownership=self.ids.ownership.encode(index),
            name=f"{first} {last}",
            email=f"{first}.{last}.{index}@example.com".lower() if dice % 5 else None,
            phone=f"+1 555-{dice % 1000:03}-{dice % 9973:04}" if dice % 3 else None,
            raw_address=f"{dice % 999 + 1} Main Street, Everytown USA" if dice % 4 else None,
            refreshed_at=refreshed,
        )

    def session(self, number: int, account_count: int) -> Session:
        """Give a session with the accounts that it has collected once there are so many of them."""
        dice = mix(number ^ self.salt)
        filters = None
        if dice >> 8 & 3:
            subcategories = traits.KINDS[: dice >> 16 & 3] if dice >> 10 & 1 else None
            filters = Filters(traits.COUNTRIES[dice >> 12 & 3], subcategories)
        position = number + self.membership.sessions
        return Session(
            number=number,
            id=self.ids.session.encode(position),
            client_secret=self.ids.secret.encode(position),
            holder=self.holder(number),
            filters=filters,
            permissions=traits.PERMISSIONS[dice % len(traits.PERMISSIONS)],
            prefetch=(None, (), ("balances",), ("balances", "transactions"))[dice >> 20 & 3],
            return_url=f"https://example.com/return?state={dice >> 40}" if dice >> 24 & 3 == 0 else None,
            accounts=self.membership.accounts_of(number, account_count),
            unknown=traits.unknown_of_session(dice >> 32, filters is not None),
            absent=dice >> 44,
        )


def _last_success(calendar: Calendar, feature: Feature, refresh: Refresh | None, time: int) -> int | None:
    if refresh is None:
        return None
    if refresh.status == "succeeded":
        return refresh.last_attempted_at
    return calendar.success_before(feature, time)
