"""Webhooks: what happens in the world is signed and posted to an address, as Stripe does, and again where it is not taken."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from queue import Queue
from threading import Thread
from time import sleep, time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import orjson

from fincon.sandbox.connect import connected_ids, connected_world
from fincon.sandbox.events import OF_AUTHORIZATIONS, TYPES
from fincon.sandbox.model import Json
from fincon.sandbox.world import World

TRIES = 50
"""How often an event is sent that is not taken."""

LONGEST_PAUSE = 5.0


def signature(body: bytes, secret: str, at: int) -> str:
    """Give the header ``Stripe-Signature`` of a body that is sent at a time (Unix seconds)."""
    digest = hmac.digest(secret.encode(), b"%d.%b" % (at, body), "sha256").hex()
    return f"t={at},v1={digest}"


def thin(event: Json, account: str = "") -> Json:
    """Give the thin event of the same thing: it names the account and does not show it."""
    subject = event["data"]["object"]
    return {
        "id": f"{event['id']}_thin",
        "object": "v2.core.event",
        "type": f"v1.{event['type']}",
        "created": datetime.fromtimestamp(event["created"], UTC).isoformat(),
        "livemode": event["livemode"],
        "context": account or None,
        "related_object": {
            "id": subject["id"],
            "type": subject["object"],
            "url": f"/v1/financial_connections/accounts/{subject['id']}",
        },
    }


def happened(world: World, since: int, *, thinly: bool = False) -> Iterator[Json]:
    """Give the events after a time (Unix seconds) as they are sent: those of connected accounts say of which."""
    for account in ("", *connected_ids(world)):
        own = connected_world(world, account) if account else world
        if own is None:
            continue
        for key in own.events.walk(since + 1, own.time, range(len(TYPES)), newest_first=False):
            event = own.event_json(key)
            if thinly and key.type not in OF_AUTHORIZATIONS:
                event = thin(event, account)
            elif account:
                event["account"] = account
            yield event


class Webhooks:
    """What is sent to one address, from a thread: in no order that can be relied on, and some of it twice."""

    def __init__(
        self, url: str, secret: str, world: World, *, thinly: bool = False, twice: float = 0.0
    ) -> None:
        self.url, self.secret, self.thinly, self.twice = url, secret, thinly, twice
        self.sent = self.refused = 0
        self._since = world.time
        self._queue: Queue[tuple[bytes, int]] = Queue()
        Thread(target=self._send_all, name="webhooks", daemon=True).start()

    def move_on(self, world: World) -> None:
        """Send what has happened since the last time."""
        found = [orjson.dumps(event) for event in happened(world, self._since, thinly=self.thinly)]
        self._since = max(self._since, world.time)
        found.sort(key=lambda body: hashlib.sha256(body).digest())
        again = [body for body in found if hashlib.sha256(body + b"again").digest()[0] < self.twice * 256]
        for body in [*found, *again]:
            self._queue.put((body, 0))

    def wait(self) -> None:
        """Wait until all that happened was taken, or given up."""
        self._queue.join()

    def _send_all(self) -> None:
        while True:
            body, tried = self._queue.get()
            if self._is_taken(body):
                self.sent += 1
            else:
                self.refused += 1
                if tried < TRIES:
                    sleep(min(0.05 * 2**tried, LONGEST_PAUSE))
                    self._queue.put((body, tried + 1))
            self._queue.task_done()

    def _is_taken(self, body: bytes) -> bool:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(body, self.secret, int(time())),
        }
        try:
            with urlopen(Request(self.url, body, headers), timeout=30) as answer:  # noqa: S310 - the address that was given
                return bool(200 <= answer.status < 300)
        except HTTPError as error:
            error.close()
            return False
        except OSError:
            return False
