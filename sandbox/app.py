"""The sandbox as an ASGI application: keys, permissions, headers."""

from __future__ import annotations

import re
from base64 import b64decode
from email.utils import format_datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fincon.sandbox.connect import connected_world
from fincon.sandbox.controls import create_controls
from fincon.sandbox.endpoints import OWNERS, ROOT, match
from fincon.sandbox.faults import Faults
from fincon.sandbox.middleware import FaultInjector, Limiter
from fincon.sandbox.model import Json
from fincon.sandbox.query import ApiError, Query
from fincon.sandbox.state import CONTROL, State, render
from fincon.sandbox.world import World

KEY = re.compile(r"(sk|rk)_(test|live)_\w+")


def redacted(key: str) -> str:
    """Give a key as it may be shown."""
    return f"{key[:8]}{'*' * 8}{key[-4:]}" if len(key) > 16 else "*" * 8


def _key_of(headers: Headers) -> str:
    """Read the API key from bearer or basic authorization."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            value = b64decode(value, validate=True).decode().partition(":")[0]
        except ValueError:
            value = ""
    elif scheme.lower() != "bearer":
        value = ""
    if not value.strip():
        raise ApiError(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization header, "
            "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        )
    return value.strip()


def _authorize(state: State, headers: Headers, permission: str) -> None:
    """Refuse keys that are not known, and restricted keys that lack the endpoint's permission."""
    key = _key_of(headers)
    if not (KEY.fullmatch(key) if state.keys is None else key in state.keys):
        raise ApiError(401, f"Invalid API Key provided: {redacted(key)}")
    if key.startswith("rk_") and permission in state.denied:
        name = f"rak_{permission.replace('.', '_')}_read"
        raise ApiError(
            403,
            f"The provided key '{redacted(key)}' does not have the required permissions for this endpoint. "
            f"Having the '{name}' permission ({permission}) would allow this request to continue.",
            code="more_permissions_required",
        )


def _world(state: State, headers: Headers) -> World:
    """Find the world of the Stripe account that the key acts for: its own, or a connected one."""
    account = headers.get("stripe-account")
    if not account:
        return state.world
    found = None if account in state.revoked else connected_world(state.world, account)
    if found is None:
        raise ApiError(
            403,
            f"The provided key '{redacted(_key_of(headers))}' does not have access to account '{account}' "
            "(or that account does not exist). Application access may have been revoked.",
            code="account_invalid",
        )
    return found


def _answer(state: State, request: Request) -> Json:
    path: str = request.scope["path"]
    found = match(path)
    if found is None:
        raise ApiError(
            404,
            f"Unrecognized request URL ({request.method}: {path}). If you are trying to list objects, remove the "
            "trailing slash. If you are trying to retrieve an object, make sure you passed a valid (non-empty) "
            "identifier in your code. Please see https://docs.stripe.com or we can help at "
            "https://support.stripe.com/.",
        )
    endpoint, id_ = found
    _authorize(state, request.headers, endpoint.permission)
    world = _world(state, request.headers)
    if request.method != "GET":
        raise ApiError(405, f"The sandbox is read-only: {request.method} {path} is not supported.")
    query = Query(request.scope["query_string"], endpoint.params)
    version = request.headers.get("stripe-version", world.evolution.default_version)
    answer = endpoint.answer(world.in_version(version), query, id_, path)
    if any(name.endswith("ownership") for name in query.lists.get("expand", ())):
        _authorize(state, request.headers, OWNERS.permission)
        _collapse(answer, state.faults)
    return answer


def _collapse(answer: Json, faults: Faults | None) -> None:
    """Show the ids alone of the ownerships whose own lists meet a fault: neither way leads to their owners."""
    for account in answer.get("data", ()) if faults else ():
        owned = account.get("ownership")
        if faults and isinstance(owned, dict):
            path = f"{ROOT}/accounts/{account['id']}/owners"
            if faults.spoils(OWNERS.pattern, f"ownership={owned['id']}", path):
                account["ownership"] = owned["id"]


class Recorder:
    """Records each request to the API, and puts Stripe's headers on each answer."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = self.state
        state.tick()
        asked = Headers(scope=scope)
        if not scope["path"].startswith(CONTROL):
            query = scope["query_string"].decode("ascii", "replace")
            state.record(scope["method"], scope["path"], query, asked.get("stripe-account", ""))
        number = state.served
        version = asked.get("stripe-version", state.world.evolution.default_version)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Request-Id"] = f"req_{number:014}"
                headers["Stripe-Version"] = version
                headers["Date"] = format_datetime(state.world.clock, usegmt=True)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Api:
    """Answers requests to Stripe's API itself, and leaves those to the sandbox's controls to their application."""

    def __init__(self, controls: ASGIApp, state: State) -> None:
        self.controls = controls
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self.controls(scope, receive, send)
            return
        try:
            response = render(_answer(self.state, Request(scope)))
        except ApiError as error:
            response = render(error.body(), error.status)
        await response(scope, receive, send)


def create_app(state: State) -> ASGIApp:
    """Make the application."""
    return Recorder(Limiter(FaultInjector(Api(create_controls(state), state), state), state), state)
