"""Serve the receiver over HTTP from a thread, so that signals stay with the command."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fincon.errors import UsageError
from fincon.listen.receiver import Receiver

HEAD_SECONDS = 10.0
"""How long the head of a request may take to come, the first one from when the connection is made."""

IDLE_SECONDS = 75
"""How long a connection is kept for another request: longer than the proxies do that stand before it."""

MAX_CONNECTIONS = 500
"""How many there may be at a time; a process may open 1,024 files."""

STOP_SECONDS = 3

logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())  # it would write to standard error else


class _Protocol(H11Protocol):
    """uvicorn's HTTP, with a bound on connections, and on the time that the head of a request takes."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close a connection that is one too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse("busy")
        else:
            self._late = self.loop.call_later(HEAD_SECONDS, self._refuse, "slow")

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait a bounded time for the rest of a head."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(HEAD_SECONDS, self._refuse, "slow")

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._stop_waiting()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, reason: str) -> None:
        app = self.config.app
        if isinstance(app, Receiver):
            app.refused[reason] += 1
        self.transport.abort()


def bind(host: str, port: int) -> socket.socket:
    """Open a socket for the server.

    Raises:
        UsageError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP explicitly: asyncio turns Nagle's delay (40 ms an answer) off on no other socket.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{host}, port {port}, cannot be used: {error.strerror}.",
            "Name others with --host and --port; port 0 takes any free one.",
        ) from error
    listener.listen(1024)
    return listener


@contextmanager
def serving(receiver: Receiver, listener: socket.socket) -> Iterator[None]:
    """Serve for as long as the block lasts; what has begun is then answered, for a few seconds at most."""
    config = uvicorn.Config(
        receiver, http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip
    server, begun = uvicorn.Server(config), Event()

    async def run() -> None:
        asyncio.get_running_loop().call_soon(begun.set)
        await server.serve(sockets=[listener])

    thread = Thread(target=asyncio.run, args=(run(),), name="listen", daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS + 1)
        listener.close()
