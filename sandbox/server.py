"""Runs the sandbox over real HTTP, on loopback only: in the foreground for people, in a thread for tests."""

from __future__ import annotations

import socket
from asyncio import Transport
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from ipaddress import ip_address
from threading import Thread
from time import sleep

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fincon.sandbox.app import create_app
from fincon.sandbox.connect import connected_ids, connected_world
from fincon.sandbox.faults import Faults
from fincon.sandbox.limits import Limits
from fincon.sandbox.state import State
from fincon.sandbox.webhooks import Webhooks
from fincon.sandbox.world import World


class Sandbox:
    """A running sandbox."""

    def __init__(self, url: str, state: State) -> None:
        self.url = url
        self.state = state

    @property
    def world(self) -> World:
        """The world at its present clock."""
        return self.state.world

    def set_clock(self, clock: datetime) -> None:
        """Set the world's clock."""
        self.state.set_clock(clock)

    def advance(self, by: timedelta) -> None:
        """Move the world's clock on."""
        self.state.advance(by)

    @property
    def requests(self) -> list[tuple[str, str, str]]:
        """The requests seen since the last reset: method, path, query."""
        return list(self.state.requests)

    @property
    def requests_by_account(self) -> dict[str, int]:
        """How many requests were seen since the last reset, by Stripe account ("" is the key's own)."""
        return dict(self.state.by_account)

    @property
    def connected(self) -> list[str]:
        """The ids of the connected accounts, newest first."""
        return connected_ids(self.world)

    def world_of(self, account_id: str) -> World:
        """The world of a connected account at its present clock."""
        found = connected_world(self.world, account_id)
        if found is None:
            raise KeyError(account_id)
        return found

    def revoke(self, account_id: str) -> None:
        """Let no key act for a connected account any more."""
        self.state.revoked.add(account_id)

    def send_webhooks(self, url: str, secret: str, *, thin: bool = False, twice: float = 0.0) -> Webhooks:
        """Send what happens from now on to an address, signed; return who sends it."""
        self.state.webhooks = Webhooks(url, secret, self.world, thinly=thin, twice=twice)
        return self.state.webhooks

    def reset_requests(self) -> None:
        """Forget the requests seen so far."""
        self.state.reset()

    @property
    def faults(self) -> Faults | None:
        """The faults that requests meet; may be set at any time."""
        return self.state.faults

    @faults.setter
    def faults(self, faults: Faults | None) -> None:
        self.state.faults = faults

    @property
    def limits(self) -> Limits | None:
        """The limits that requests are held to; may be set at any time."""
        return self.state.limits

    @limits.setter
    def limits(self, limits: Limits | None) -> None:
        self.state.limits = limits


class Protocol(H11Protocol):
    """uvicorn's HTTP, with the connection within reach of the faults that close it."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Note the connection where requests can find it, as `scope["state"]["transport"]`."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def _listen(host: str, port: int) -> tuple[socket.socket, str]:
    """Open a listening socket on loopback, and the URL that leads there."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"The sandbox listens on loopback only, not on {host!r}: use 127.0.0.1 or localhost")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Named TCP explicitly: asyncio turns Nagle's delay (40 ms an answer) off on no other socket.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    listener.listen(512)
    shown = f"[{address}]" if family is socket.AF_INET6 else address
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def _server(state: State) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(state), http=Protocol, lifespan="off", log_config=None, access_log=False,
        date_header=False, server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def serve(
    world: World,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    keys: Collection[str] | None = None,
    denied: Collection[str] = (),
    faults: Faults | None = None,
    limits: Limits | None = None,
    speed: float = 0,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a world until interrupted; `on_ready` is called with the URL as soon as requests are answered."""
    state = State(world, keys=keys, denied=denied, faults=faults, limits=limits)
    state.speed = speed
    listener, url = _listen(host, port)
    try:
        if on_ready is not None:
            on_ready(url)
        _server(state).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()


@contextmanager
def running(
    world: World,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    keys: Collection[str] | None = None,
    denied: Collection[str] = (),
    faults: Faults | None = None,
    limits: Limits | None = None,
) -> Iterator[Sandbox]:
    """Run a sandbox in a thread for as long as the block lasts."""
    state = State(world, keys=keys, denied=denied, faults=faults, limits=limits)
    listener, url = _listen(host, port)
    server = _server(state)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("The sandbox did not start")
            sleep(0.005)
        yield Sandbox(url, state)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
