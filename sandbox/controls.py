"""The sandbox's own endpoints, under `/_sandbox`: its clock, its faults, its keys, its webhooks, the requests it saw."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fincon.sandbox.faults import RETRYABLE, Fault, Faults, Rule
from fincon.sandbox.query import ApiError
from fincon.sandbox.state import AGE, CONTROL, MOST_SPEED, State, render
from fincon.sandbox.webhooks import Webhooks

Wish = TypeVar("Wish", bound=msgspec.Struct)


class ClockWish(msgspec.Struct, forbid_unknown_fields=True):
    """What `/clock` takes: a time, a way forward, a speed."""

    at: datetime | None = None
    advance_seconds: float = 0
    speed: Annotated[float, Meta(ge=0, le=MOST_SPEED)] | None = None


class RuleWish(msgspec.Struct, forbid_unknown_fields=True):
    """A rule of `/faults`: what happens (see `Fault`), and to which requests (see `Rule`)."""

    kind: str
    path: str = ""
    endpoint: str = ""
    query: str = ""
    nth: tuple[int, ...] = ()
    reason: str = "endpoint-rate"
    retry_after: float | None = None
    should_retry: bool | None = None
    seconds: float = 30.0
    defect: str = "amount_is_text"

    def rule(self) -> Rule:
        """Make the rule; a kind that there is not is a ValueError."""
        fault = Fault(self.kind, self.reason, self.retry_after, self.should_retry, self.seconds, self.defect)
        return Rule(fault, self.endpoint, self.query, self.nth, self.path)


class FaultsWish(msgspec.Struct, forbid_unknown_fields=True):
    """What `/faults` takes."""

    rules: tuple[RuleWish, ...] = ()
    rate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    kinds: tuple[str, ...] = RETRYABLE


class KeysWish(msgspec.Struct, forbid_unknown_fields=True):
    """What `/keys` takes: the keys that are known, and what those that begin with `rk_` may not read."""

    known: tuple[str, ...] | None = None
    denied: tuple[str, ...] = ()


class WebhooksWish(msgspec.Struct, forbid_unknown_fields=True):
    """What `/webhooks` takes: where events are sent from now on, signed with which secret, as thin ones or not."""

    url: Annotated[str, Meta(pattern="^https?://")]
    secret: str
    thin: bool = False
    twice: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Which share of them is sent twice."""


def _state(request: Request) -> State:
    state: State = request.app.state.sandbox
    return state


async def _wish(request: Request, kind: type[Wish]) -> Wish:
    return msgspec.json.decode(await request.body() or b"{}", type=kind)


def _refused(error: Exception) -> Response:
    return render(ApiError(400, f"This cannot be set: {error}").body(), 400)


def _of_this_age(at: datetime) -> datetime:
    if at.year not in AGE:
        raise ValueError(f"the year {at.year} is not from {AGE.start} to {AGE.stop - 1}")
    return at


async def clock(request: Request) -> Response:
    """Show the clock; set it (`{"at": "2026-06-02T12:00:00Z"}`), move it on (`{"advance_seconds": 60}`), have it run."""
    state = _state(request)
    if request.method == "POST":
        try:
            wish = await _wish(request, ClockWish)
            at = (wish.at or state.world.clock) + timedelta(seconds=wish.advance_seconds)
            state.set_clock(_of_this_age(at))
            if wish.speed is not None:
                state.speed = wish.speed
        except (ValueError, OverflowError) as error:
            return _refused(error)
    return render({"clock": state.world.clock.isoformat(), "speed": state.speed})


async def faults(request: Request) -> Response:
    """Show which faults happened; POST sets which happen from now on, DELETE ends them."""
    state = _state(request)
    if request.method == "DELETE":
        state.faults = None
    elif request.method == "POST":
        try:
            wish = await _wish(request, FaultsWish)
            kinds = [Fault(kind).kind for kind in wish.kinds]
            state.faults = Faults(wish.rate, kinds=kinds, script=[rule.rule() for rule in wish.rules])
        except ValueError as error:
            return _refused(error)
    now = state.faults or Faults()
    return render({"rules": len(now.script), "rate": now.rate, "injected": dict(now.injected)})


async def keys(request: Request) -> Response:
    """Set which keys are known, and what restricted ones may not read; `{}` lets all keys read all again."""
    state = _state(request)
    try:
        wish = await _wish(request, KeysWish)
    except ValueError as error:
        return _refused(error)
    state.keys = None if wish.known is None else frozenset(wish.known)
    state.denied = frozenset(wish.denied)
    return render({"known": "all" if wish.known is None else len(wish.known), "denied": wish.denied})


async def webhooks(request: Request) -> Response:
    """Show how many events were sent; POST sets where they are sent as the clock moves on, DELETE ends it."""
    state = _state(request)
    if request.method == "DELETE":
        state.webhooks = None
    elif request.method == "POST":
        try:
            wish = await _wish(request, WebhooksWish)
        except ValueError as error:
            return _refused(error)
        state.webhooks = Webhooks(wish.url, wish.secret, state.world, thinly=wish.thin, twice=wish.twice)
    now = state.webhooks
    return render(
        {"url": now and now.url, "sent": now.sent if now else 0, "refused": now.refused if now else 0}
    )


async def seen(request: Request) -> Response:
    """Show the requests seen so far: counts, and the last hundred."""
    state = _state(request)
    counts = {f"{method} {pattern}": count for (method, pattern), count in sorted(state.counts.items())}
    last = [f"{method} {path}{'?' if query else ''}{query}" for method, path, query in state.requests]
    return render({"total": sum(counts.values()), "counts": counts, "last": last[-100:]})


async def reset(request: Request) -> Response:
    """Forget the requests seen so far."""
    _state(request).reset()
    return render({})


def create_controls(state: State) -> Starlette:
    """Make the application of the controls."""
    controls = Starlette(
        routes=[
            Route(f"{CONTROL}/clock", clock, methods=["GET", "POST"]),
            Route(f"{CONTROL}/faults", faults, methods=["GET", "POST", "DELETE"]),
            Route(f"{CONTROL}/keys", keys, methods=["POST"]),
            Route(f"{CONTROL}/webhooks", webhooks, methods=["GET", "POST", "DELETE"]),
            Route(f"{CONTROL}/requests", seen, methods=["GET"]),
            Route(f"{CONTROL}/requests/reset", reset, methods=["POST"]),
        ]
    )
    controls.state.sandbox = state
    return controls
