"""Post webhooks to a listener as Stripe does, or as nobody should."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from fincon.landing.spool import Spool
from fincon.listen.receiver import HEALTH, PATH, Receiver, Wanted
from fincon.listen.server import bind, serving
from fincon.sandbox.webhooks import signature
from fincon.settings import Secret

SECRET = "whsec_ofAtest"  # noqa: S105 - it opens nothing

OWN = Wanted(livemode=False, stripe_accounts=frozenset({""}))


@dataclass
class Listener:
    """A listener in this process, in front of the spool of a data folder."""

    receiver: Receiver
    port: int

    @property
    def url(self) -> str:
        """Where events are posted."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    def post(self, event: Any, *, secret: str = SECRET, at: float | None = None, **headers: str) -> int:
        """Post an event (JSON, or bytes as they are); return the status of the answer."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        signed = {"Stripe-Signature": signature(body, secret, int(time.time() if at is None else at))}
        return requests.post(self.url, body, headers={**signed, **headers}, timeout=20).status_code

    def health(self) -> tuple[int, dict[str, Any]]:
        """What it says of itself, and with which status."""
        answer = requests.get(f"http://127.0.0.1:{self.port}{HEALTH}", timeout=20)
        return answer.status_code, answer.json()

    @property
    def spooled(self) -> bytes:
        """All that is on disk."""
        return b"".join(path.read_bytes() for path in self.receiver.spool.files())


@contextmanager
def listening(data: Path, wanted: Wanted = OWN, *secrets: str) -> Iterator[Listener]:
    """Listen in front of ``data`` for as long as the block lasts."""
    receiver = Receiver(Spool(data), [Secret(one) for one in secrets or (SECRET,)], wanted)
    socket = bind("127.0.0.1", 0)
    with serving(receiver, socket):
        yield Listener(receiver, socket.getsockname()[1])
