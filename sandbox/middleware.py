"""ASGI layers that stand between the client and the API: limits and latency, then faults."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import Transport
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fincon.sandbox.faults import ERRORS, Fault, spoil
from fincon.sandbox.state import CONTROL, State, pattern_of, render

HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
CURSORS = ("starting_after", "ending_before")
GONE = (*CURSORS, "transaction_refresh")  # what names an object that may be gone


LOOK_SECONDS = 0.005
DRIPS = 20  # pieces of a body that comes slowly


class Limiter:
    """Makes requests wait, and refuses those above the limits."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        limits = self.state.limits
        if limits is not None and not scope["path"].startswith(CONTROL):
            headers = Headers(scope=scope)
            is_live = "_live_" in headers.get("authorization", "")
            account = headers.get("stripe-account", "")
            reason = limits.refuse(pattern_of(scope["path"]), live=is_live, account=account)
            if reason is not None:
                await _error(Fault("rate_limit", reason=reason))(scope, receive, send)
                return
            await asyncio.sleep(limits.delay(self.state.served))
        while self.state.held(scope["path"]):
            await asyncio.sleep(LOOK_SECONDS)
        await self.app(scope, receive, send)


class FaultInjector:
    """Lets requests meet the faults that are chosen for them."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        faults = self.state.faults
        if faults is None or scope["path"].startswith(CONTROL):
            await self.app(scope, receive, send)
            return
        query = scope["query_string"].decode("ascii", "replace")
        fault = faults.choose(pattern_of(scope["path"]), query, scope["path"])
        self.state.advance(faults.drift())
        if fault is None or (fault.kind == "cursor_gone" and not any(name in query for name in GONE)):
            await self.app(scope, receive, send)
        elif fault.kind in ERRORS or fault.kind == "bad_gateway":
            await _error(fault)(scope, receive, send)
        elif fault.kind in ("reset", "no_answer", "timeout"):
            await _hang_up(fault, scope, receive)
        else:
            await self._spoiled(fault, scope, receive, send)

    async def _spoiled(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, but not as the API would."""
        if fault.kind == "repeated_page":
            pairs = parse_qsl(scope["query_string"].decode("ascii", "replace"))
            kept = [(name, value) for name, value in pairs if name not in CURSORS]
            scope = {**scope, "query_string": urlencode(kept).encode()}
        status, body = await _capture(self.app, scope, receive)
        if fault.kind == "drip":
            await _drip(body, status, fault.seconds, send)
            return
        if fault.kind == "cut_short":
            await _cut_short(body, status, scope, receive, send)
            return
        if fault.kind == "cut_short_quietly":
            body = body[: len(body) // 2]
        elif fault.kind == "invalid_json":
            body = body.replace(b'"', b"'")
        elif status == 200:
            # orjson writes no integer beyond 64 bits; 2**63 still fits its unsigned range.
            body = orjson.dumps(
                spoil(orjson.loads(body), fault.kind, fault.defect), option=orjson.OPT_INDENT_2
            )
        await Response(body, status, media_type="application/json")(scope, receive, send)


def _error(fault: Fault) -> Response:
    """Answer with an error that has nothing to do with the request."""
    if fault.kind == "bad_gateway":
        return Response(HTML, 502, fault.headers(), media_type="text/html")
    status, error = ERRORS[fault.kind]
    response = render({"error": error}, status)
    response.headers.update(fault.headers())
    return response


async def _capture(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[int, bytes]:
    """Get the API's own answer without sending it."""
    status, body = 200, b""

    async def keep(message: Message) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body += message.get("body", b"")

    await app(scope, receive, keep)
    return status, body


async def _cut_short(body: bytes, status: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Promise a whole body and send half of it."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    transport: Transport = scope["state"]["transport"]
    transport.close()
    await _gone(receive)


async def _drip(body: bytes, status: int, seconds: float, send: Send) -> None:
    """Send a body in pieces, evenly over a time."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    size = -(-len(body) // DRIPS)
    for start in range(0, len(body), size):
        await asyncio.sleep(seconds / DRIPS)
        await send({"type": "http.response.body", "body": body[start : start + size], "more_body": True})
    await send({"type": "http.response.body"})


async def _hang_up(fault: Fault, scope: Scope, receive: Receive) -> None:
    """Close the connection without an answer: at once, with a reset, or after a while."""
    transport: Transport = scope["state"]["transport"]
    if fault.kind == "timeout":
        try:
            await asyncio.wait_for(_gone(receive), fault.seconds)
        except TimeoutError:
            pass
        else:
            return
    if fault.kind == "reset":
        # With no time to linger, closing a socket tears the connection down.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass
