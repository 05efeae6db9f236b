"""Bound how long an answer is waited for: by a deadline for its head, and by who wants to stop.

urllib3's time-outs bound each silence alone, not how long a drip may last.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

SILENCES = 3
"""How many read time-outs a head may take as a whole, and a body again."""


class _Watch:
    """Watch all connections on one thread, for a timer would be a thread of its own, started for each request."""

    def __init__(self) -> None:
        self._until: dict[HTTPConnection, float] = {}
        self._late: set[HTTPConnection] = set()
        self._changed = threading.Condition()
        self._awake_at = 0.0
        """When the thread looks again by itself; 0 while there is none."""

    @contextmanager
    def deadline(self, connection: HTTPConnection) -> Iterator[None]:
        """Shut the connection's socket when its head has taken too long.

        Raises:
            TimeoutError: it had.
        """
        at = time.monotonic() + SILENCES * float(connection.timeout or 0)
        with self._changed:
            self._until[connection] = at
            if not self._awake_at:
                threading.Thread(target=self._look, name="deadlines", daemon=True).start()
            if not self._awake_at or at < self._awake_at:
                self._awake_at = at
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._until.pop(connection, None)
                was_late = connection in self._late
                self._late.discard(connection)
            if was_late:  # the head was cut off, which can look like a whole one
                raise TimeoutError("the head of the answer took too long")

    def _look(self) -> None:
        with self._changed:
            while self._until:
                now = time.monotonic()
                for connection in [c for c, at in self._until.items() if at <= now]:
                    del self._until[connection]
                    self._late.add(connection)
                    _shut(connection.sock)
                self._awake_at = min(self._until.values(), default=now)
                self._changed.wait(self._awake_at - now)
            self._awake_at = 0.0


def _shut(sock: object) -> None:
    if isinstance(sock, socket.socket):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was faster: there is nothing left to shut


_WATCH = _Watch()


class _Sockets:
    """Know the sockets on which answers come: another thread may shut them, and with that end every wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakSet[socket.socket] = WeakSet()
        self._is_shut = False

    def add(self, connection: HTTPConnection) -> None:
        """Take a connection on which an answer is to come; one that comes after `shut` is shut as well."""
        with self._lock:
            if isinstance(connection.sock, socket.socket):
                self._open.add(connection.sock)
                if self._is_shut:
                    _shut(connection.sock)

    def shut(self) -> None:
        """Shut them all, for good."""
        with self._lock:
            self._is_shut = True
            for one in self._open:
                _shut(one)


class _Connection(HTTPConnection):
    sockets: _Sockets

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 narrows it the same way
        self.sockets.add(self)
        with _WATCH.deadline(self):
            return super().getresponse()


class _SecureConnection(HTTPSConnection):
    sockets: _Sockets

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 narrows it the same way
        self.sockets.add(self)
        with _WATCH.deadline(self):
            return super().getresponse()


class PatientAdapter(HTTPAdapter):
    """Add to requests' adapter a deadline of `SILENCES` read time-outs for the head of each answer, and a way to stop."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools as requests does, with connections that have a deadline and can be shut."""
        super().init_poolmanager(*args, **kwargs)
        self._sockets = known = {"sockets": _Sockets()}
        plain = type("_Pool", (HTTPConnectionPool,), {"ConnectionCls": type("_", (_Connection,), known)})
        secure = type(
            "_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": type("_", (_SecureConnection,), known)}
        )
        self.poolmanager.pool_classes_by_scheme = {"http": plain, "https": secure}

    def shut(self) -> None:
        """Break off every answer that is under way, or comes after."""
        self._sockets["sockets"].shut()
