"""Builds accounts, sessions and owners from their numbers."""

from __future__ import annotations

from functools import lru_cache

from fincon.sandbox import account_traits as traits
from fincon.sandbox.account_traits import Granted
from fincon.sandbox.evolution import LISTED, STANDING_STILL, Evolution
from fincon.sandbox.ids import ids, keyed, mix
from fincon.sandbox.model import (
    Account,
    Amounts,
    Authorization,
    Balance,
    Filters,
    Holder,
    Owner,
    Session,
    Transaction,
)
from fincon.sandbox.random_rolls import Rolls
from fincon.sandbox.session_accounts import Membership
from fincon.sandbox.timeline import (
    BALANCE,
    BASE,
    FEATURES,
    INSTITUTIONS,
    OWNERSHIP,
    TRANSACTION,
    Calendar,
    Feature,
    Schedule,
)
from fincon.sandbox.transactions import HISTORY, Ledger, is_dormant, sums

FOREVER = 1 << 40
NUMBERED_FROM = 1 << 40
"""Sessions are numbered from the base time; their authorizations from so far back that none is negative."""


class Accounts:
    """Every object of one world (apart from events), by number and time."""

    def __init__(
        self,
        seed: int,
        accounts: int,
        sessions: int,
        evolution: Evolution = STANDING_STILL,
        base: int = BASE,
    ) -> None:
        self.evolution = evolution
        self.salt = keyed(seed, "sessions")
        self.ids = ids(seed)
        self.schedule = Schedule(seed, accounts, base)
        self.roll = self.schedule.dice.roll
        self.membership = Membership(seed, accounts, sessions)
        self.ledger = Ledger(self.ids)
        self.link = lru_cache(maxsize=256)(self._link)  # the accounts of a page share sessions

    def _link(self, session: int) -> tuple[Holder | None, Granted]:
        """Give what the accounts of a session have in common: their holder, and what they grant."""
        asked = traits.PERMISSIONS[mix(session ^ self.salt) % len(traits.PERMISSIONS)]
        found = self.membership.holder_of(session)
        if found is None:
            return None, asked
        kind, number = found
        if kind == "customer":
            return Holder(kind, self.ids.customer.encode(number)), asked
        number = number * 2 + (kind == "customer_account")
        return Holder(kind, self.ids.holder_account.encode(number)), asked

    def refreshes(self, feature: Feature, index: int, rolls: Rolls) -> bool:
        """Whether a feature of an account is ever refreshed."""
        _, asked = self.link(self.membership.session_of(index))
        return feature.permission in _live(_granted(asked, rolls), rolls)

    def account(self, index: int, time: int) -> Account:
        """Give an account as it is at a time."""
        rolls = self.roll(index)
        calendar = Calendar(self.schedule, index, rolls)
        turn, begun = traits.turns(rolls, calendar.created, time)
        holder, asked = self.link(self.membership.session_of(index))
        granted = _granted(asked, rolls)
        live = _live(granted, rolls)
        status = calendar.link(time).status if calendar.kind else "active"
        category, subcategory = traits.CATEGORIES[rolls.category % len(traits.CATEGORIES)]
        odd = rolls.odd_value & 127
        if odd == 0:
            category, subcategory = "crypto", "wallet"
        elif odd == 1 and status == "active":
            status = "under_review"
        evolution = self.evolution
        at = [min(time, self.until(calendar, one)) for one in FEATURES] if evolution.ending else [time] * 3
        balance_refresh = calendar.latest(BALANCE, at[0]) if "balances" in live else None
        ownership_refresh = calendar.latest(OWNERSHIP, at[1]) if "ownership" in live else None
        transaction_refresh = calendar.latest(TRANSACTION, at[2]) if "transactions" in live else None
        balance = None
        if balance_refresh and balance_refresh[3] is not None:
            is_forgotten = status == "disconnected" and rolls.kept & 1
            balance = None if is_forgotten else self._balance(calendar, category, balance_refresh[3])
        id_ = self.ids.account.encode(index)
        notice = traits.notice(rolls, turn, begun) if turn & 3 == 1 and status == "active" else None
        methods = rolls.methods & 3
        if evolution.every_event:
            notice = traits.postponed(notice, begun, time)
            methods = methods + (turn >> 2) & 3
        refreshes = (balance_refresh, ownership_refresh, transaction_refresh)
        if evolution.ending:
            refreshes = tuple(it if now == time else None for it, now in zip(refreshes, at, strict=True))  # type: ignore[assignment]  # still three
        account = Account(
            index,
            id_,
            calendar.created,
            holder,
            INSTITUTIONS[calendar.institution],
            traits.display_name(subcategory, rolls, turn),
            traits.ENDINGS[rolls.last4 % 10_000] if rolls.last4 % 12 else None,
            category,
            subcategory,
            status,
            notice,
            granted[turn + 1 >> 2 & 1],
            traits.SUBSCRIPTIONS[rolls.subscriptions & 7 | (turn + 2 & 4) << 1],
            traits.METHODS[methods],
            traits.numbers(rolls, begun) if rolls.numbers & 8 else None,
            self.ids.ownership(id_) if ownership_refresh and ownership_refresh[3] is not None else None,
            balance,
            refreshes,
            self.ledger.refresh_id(index, transaction_refresh[1]) if transaction_refresh else None,
            {},
            rolls.absent,
        )
        unknown = traits.unknown(account, rolls.variant) if rolls.unknown % 50 == 0 else {}
        unknown = {**unknown, **evolution.grown(index, time)}
        return account._replace(unknown=unknown) if unknown else account

    def until(self, calendar: Calendar, feature: Feature) -> int:
        """Give when the refreshes of a feature end: a second that is never reached if they do not."""
        ended = self.evolution.ended(calendar.index, feature.name, calendar.created)
        return FOREVER if ended is None else ended

    def presence(self, index: int, time: int) -> str:
        """Tell whether an account is in lists at a time, is shown as deleted, or is gone."""
        if not self.evolution.leaving:
            return LISTED
        return self.evolution.presence(index, self.schedule.created(index), time)

    def authorization(self, index: int, time: int) -> Authorization:
        """Give the authorization by which an account was linked, as the oldest account of its session tells it."""
        session = self.membership.session_of(index)
        first = self.account(max(0, self.membership.start(session)), time)
        institution = INSTITUTIONS.index(first.institution_name)
        return Authorization(
            id=self.ids.authorization.encode(session + NUMBERED_FROM),
            holder=first.holder,
            institution=f"fcinst_{mix(institution):016x}",
            institution_name=first.institution_name,
            display_name=first.display_name,
            status="active" if first.status in ("active", "under_review") else "inactive",
            notice=first.notice,
        )

    def anchors(self, index: int) -> bool:
        """Whether an account is the one that its authorization is told by."""
        return index == max(0, self.membership.start(self.membership.session_of(index)))

    @staticmethod
    def _balance(calendar: Calendar, category: str, as_of: int) -> Balance:
        rolls = calendar.rolls
        base, posted, booked = 0, 0, 0
        if not is_dormant(rolls):
            base = traits.base(rolls, category)
            posted, booked = sums(rolls, as_of - calendar.created + HISTORY)
        main = traits.currency(rolls)
        current = {main: base + posted}
        if rolls.more % 10 == 0:
            for extra in traits.MORE_CURRENCIES[rolls.more // 10 % len(traits.MORE_CURRENCIES)]:
                # Transactions are in the main currency alone: in others nothing changes.
                current.setdefault(extra, mix(calendar.index << 32 ^ len(current)) % 9_000_001 - 1_000_000)
        if rolls.more % 97 == 1:
            current = {}
        available: Amounts | None = None
        used: Amounts | None = None
        kind = "credit" if category == "credit" else "cash"
        if kind == "credit":
            used = dict(current)  # negative: owed by the holder, in either map
        elif category == "investment" and rolls.variant % 2:
            kind = "investment"
        elif rolls.available % 8:
            available = {main: base + booked} if current else {}
        amounts = available or used
        if rolls.available % 31 == 1 and amounts:
            amounts["cad" if main != "cad" else "usd"] = 12_345
        return Balance(kind, as_of, current, available, used, rolls.shape)

    def owners(self, index: int, time: int) -> list[Owner]:
        """Give an account's owners, none to three."""
        rolls = self.roll(index)
        calendar = self.schedule.calendar(index, rolls)
        refreshed = calendar.success_before(OWNERSHIP, min(time, self.until(calendar, OWNERSHIP)))
        if refreshed is None or not self.refreshes(OWNERSHIP, index, rolls):
            return []
        grown = self.evolution.grown(index, time)
        return [
            self._owner(index, place, rolls, refreshed)._replace(unknown=grown)
            for place in range((1, 1, 1, 2, 2, 3, 0, 1)[rolls.owners % 8])
        ]

    def transactions(self, index: int, time: int) -> list[Transaction]:
        """Give the transactions of an account, newest first."""
        rolls = self.roll(index)
        if not self.refreshes(TRANSACTION, index, rolls):
            return []
        calendar, account = self.schedule.calendar(index, rolls), self.ids.account.encode(index)
        until = min(time, self.until(calendar, TRANSACTION))
        found = self.ledger.transactions(calendar, account, traits.currency(rolls), until)
        grown = self.evolution.grown(index, time)
        return [one._replace(unknown={**one.unknown, **grown}) for one in found] if grown else found

    def _owner(self, index: int, place: int, rolls: Rolls, refreshed: int) -> Owner:
        dice, whose = rolls.person + place * 4_099, str(index)
        if place == 0 and rolls.owners & 8:  # whoever linked the account; so several accounts have one owner
            session = self.membership.session_of(index)
            dice, whose = mix(session ^ self.salt), f"of-{session + self.membership.sessions}"
        first, last = traits.FIRST[dice % 8], traits.LAST[dice // 8 % 8]
        return Owner(
            id=self.ids.owner.encode(index * 4 + place),
            account=self.ids.account.encode(index),
            ownership=self.ids.ownership(self.ids.account.encode(index)),
            name=f"{first} {last}",
            email=f"{first}.{last}.{whose}@example.com".lower() if dice % 5 else None,
            phone=f"+1 555-{dice % 1000:03}-{dice % 9973:04}" if dice % 3 else None,
            raw_address=f"{dice % 999 + 1} Main Street, Everytown USA" if dice % 4 else None,
            refreshed_at=refreshed,
            unknown={},
        )

    def session(self, number: int, account_count: int, time: int) -> Session:
        """Give a session at a time, with the accounts that it has collected once there are so many of them."""
        dice = mix(number ^ self.salt)
        filters = None
        if dice >> 8 & 3:
            subcategories = traits.KINDS[: dice >> 16 & 3] if dice >> 10 & 1 else None
            filters = Filters(traits.COUNTRIES[dice >> 12 & 3], subcategories)
        position = number + self.membership.sessions
        unknown = traits.unknown_of_session(dice >> 32, filters is not None)
        country = filters.countries[0] if filters and filters.countries else None
        return Session(
            number=number,
            id=self.ids.session.encode(position),
            client_secret=self.ids.secret.encode(position),
            holder=self.link(number)[0],
            filters=filters,
            permissions=traits.ASKED[dice % len(traits.ASKED)],
            prefetch=(None, (), ("balances",), ("balances", "transactions"))[dice >> 20 & 3],
            return_url=f"https://example.com/return?state={dice >> 40}" if dice >> 24 & 3 == 0 else None,
            accounts=[
                index
                for index in self.membership.accounts_of(number, account_count)
                if self.presence(index, time) == LISTED
            ],
            unknown=unknown,
            absent=dice >> 44,
            newer=traits.settings_of_session(
                dice >> 26, country, has_tokens=self.evolution.bank_account_tokens
            ),
            grown=self.evolution.grown(position, time),
        )


def _granted(asked: Granted, rolls: Rolls) -> Granted:
    """Give what an account grants: what its session asked for, or at times null, nothing or all."""
    dice = rolls.permissions & 31
    return asked if dice > 2 else traits.RARELY[dice]


def _live(granted: Granted, rolls: Rolls) -> tuple[str, ...]:
    """Give the permissions that are made use of; some accounts were never refreshed."""
    return granted[0] or () if rolls.never % 25 else ()
