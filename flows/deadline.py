"""A deadline for the head of an answer: urllib3's time-outs bound each silence, not how long a drip may last."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

SILENCES = 3
"""How many read time-outs a head may take as a whole, and a body again."""


@contextmanager
def _deadline(connection: HTTPConnection) -> Iterator[None]:
    """Shut the connection's socket when its head has taken too long.

    Raises:
        TimeoutError: it had.
    """
    late = threading.Event()

    def shut() -> None:
        late.set()
        if isinstance(connection.sock, socket.socket):
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # the other side was faster: there is nothing left to shut

    timer = threading.Timer(SILENCES * float(connection.timeout or 0), shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():  # the head was cut off, which can look like a whole one
            raise TimeoutError("the head of the answer took too long")


class _Connection(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 narrows it the same way
        with _deadline(self):
            return super().getresponse()


class _SecureConnection(HTTPSConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 narrows it the same way
        with _deadline(self):
            return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class PatientAdapter(HTTPAdapter):
    """requests' adapter, with a deadline of `SILENCES` read time-outs for the head of each answer."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As in requests; the pools' connections are the ones with a deadline."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
