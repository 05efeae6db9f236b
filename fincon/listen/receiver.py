"""Take Stripe's webhooks, as an ASGI application: an event is on disk, for good, before it is answered with 200.

What waits at one moment goes to disk together, in one file, so that many a second cost few writes. What is no event of
Stripe's is refused, counted, and written nowhere.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fincon.extract.events import TYPES
from fincon.landing.spool import Spool
from fincon.listen.signature import refusal
from fincon.privacy import Erased
from fincon.settings import Secret
from fincon.transforms.redaction import Privacy
from fincon.transforms.webhooks import Webhook, parse_webhook

PATH, HEALTH = "/stripe/events", "/health"

MAX_BODY = 1_000_000
"""In bytes; Stripe's are a quarter of that at most."""

BODY_SECONDS = 10.0
"""How long a body may take to come."""

MAX_IN_FLIGHT = 256
"""How many requests are taken at a time; Stripe sends again what is refused for that."""

REMEMBERED = 100_000
"""How many events are known by their ids, so that one that is sent again is not kept again."""

LOG = logging.getLogger("fincon.listen")

ANSWERS = {
    "unsigned": 400, "forged": 400, "replayed": 400, "unreadable": 400, "cut short": 400,
    "slow": 408, "large": 413, "busy": 503, "choice": 503, "disk": 503, "failed": 500,
}  # fmt: skip
"""Why a webhook is refused → the status of the answer. Stripe sends it again for days, whichever it is."""


class Refused(Exception):
    """A webhook is not taken; the reason is a key of `ANSWERS`."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Say which events are kept; others are answered with 200, for Stripe would send them again, and counted."""

    livemode: bool
    stripe_accounts: frozenset[str]
    """Those whose events are loaded; empty stands for the key's own."""
    connected: bool = False
    """Keep those of every connected account."""

    def reason_against(self, webhook: Webhook) -> str:
        """Return why an event is not kept, in one word; empty where it is."""
        if webhook.livemode is not self.livemode:
            return "mode"
        if (
            not (self.connected and webhook.stripe_account)
            and webhook.stripe_account not in self.stripe_accounts
        ):
            return "account"
        if webhook.type not in TYPES and not (webhook.is_thin and webhook.type):
            return "type"
        return ""


class Receiver:
    """The application, and what it has counted."""

    def __init__(self, spool: Spool, secrets: Sequence[Secret], wanted: Wanted) -> None:
        self.spool, self._secrets, self._wanted = spool, secrets, wanted
        self.privacy, self.erased = Privacy(), Erased()
        """What is left out of what is kept; may be replaced at any time."""
        self.received = self.duplicates = 0
        self.ignored: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.not_known = ""
        """Why it is not known what is to be left out of what is kept; while it is not, nothing is."""
        self.not_kept = self.not_loaded = ""
        """Why events cannot be written, or loaded, at the moment; for `/health`."""
        self._waited_before = spool.count()
        self._in_flight = 0
        self._pending: list[tuple[Webhook, asyncio.Future[str]]] = []
        self._taken: dict[str, asyncio.Future[str]] = {}
        """Event → what came of it: a reason to refuse it, or nothing."""
        self._writer: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> int:
        """Count the events that are loaded, or were known, of those that waited at the beginning or came since."""
        return self._waited_before + self.received - self.spool.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method, path = scope["method"], scope["path"]
        if path == HEALTH and method in ("GET", "HEAD"):
            response = await self._health()
        elif path != PATH:
            response = Response("There is nothing here.\n", 404)
        elif method != "POST":
            response = Response("Stripe posts events here.\n", 405, {"Allow": "POST"})
        else:
            response = await self._answer(Headers(scope=scope), receive)
        await response(scope, receive, send)

    async def _answer(self, headers: Headers, receive: Receive) -> Response:
        if self._in_flight >= MAX_IN_FLIGHT:
            return self._refuse("busy")
        self._in_flight += 1
        try:
            await self._take(headers, receive)
        except Refused as refused:
            return self._refuse(str(refused))
        finally:
            self._in_flight -= 1
        return Response("Taken.\n")

    def _refuse(self, reason: str) -> Response:
        self.refused[reason] += 1
        LOG.warning("a webhook was refused: %s", reason)
        # What is left of its body is not read.
        return Response(f"Refused: {reason}.\n", ANSWERS[reason], {"Connection": "close"})

    async def _take(self, headers: Headers, receive: Receive) -> None:
        """Take one webhook; return once it is on disk, or need not be.

        Raises:
            Refused: it is not taken.
        """
        signature = ",".join(headers.getlist("stripe-signature"))
        if not signature:
            raise Refused("unsigned")
        body = await _read_body(headers.get("content-length", ""), receive)
        if reason := refusal(signature, body, self._secrets, time.time()):
            raise Refused(reason)
        try:
            webhook = parse_webhook(body)
        except (ValueError, RecursionError) as error:  # msgspec's and Unicode's are ValueErrors
            raise Refused("unreadable") from error
        if self.not_known:
            raise Refused("choice")
        if against := self._wanted.reason_against(webhook):
            self.ignored[against] += 1
            return
        if reason := await self._keep(webhook):
            raise Refused(reason)

    async def _keep(self, webhook: Webhook) -> str:
        """Wait until an event is on disk; return why it cannot be, or nothing."""
        taken = self._taken.get(webhook.event_id)
        if taken is not None:
            self.duplicates += 1
            return await asyncio.shield(taken)
        taken = self._taken[webhook.event_id] = asyncio.get_running_loop().create_future()
        self._pending.append((webhook, taken))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_pending())
        return await asyncio.shield(taken)

    async def _write_pending(self) -> None:
        """Write what waits until nothing does; what comes meanwhile goes together in the next file."""
        try:
            while self._pending:
                some, self._pending = self._pending, []
                for (webhook, taken), why in zip(some, await self._reasons(some), strict=True):
                    taken.set_result(why)
                    if why:
                        del self._taken[webhook.event_id]
                    else:
                        self.received += 1
                while len(self._taken) > REMEMBERED and next(iter(self._taken.values())).done():
                    del self._taken[next(iter(self._taken))]
        finally:
            self._writer = None

    async def _reasons(self, some: Sequence[tuple[Webhook, asyncio.Future[str]]]) -> list[str]:
        """Write events together; return why each cannot be kept, or nothing."""
        try:
            reason = await asyncio.to_thread(self._write, [webhook.raw for webhook, _ in some])
            if reason == "unreadable" and len(some) > 1:  # one of them spoils the others
                return [await asyncio.to_thread(self._write, [webhook.raw]) for webhook, _ in some]
        except RuntimeError:  # no thread can be had: who waits is answered, and Stripe sends it again
            LOG.exception("events cannot be kept")
            reason = "failed"
        return [reason] * len(some)

    def _write(self, events: list[bytes]) -> str:
        """Write events; return why they cannot be, or nothing."""
        try:
            self.spool.write(events, self.privacy, self.erased)
        except OSError as error:
            LOG.exception("events cannot be kept in %s", self.spool.folder)
            self.not_kept = f"events cannot be kept: {error.strerror}"
            return "disk"
        except (ValueError, RecursionError):
            return "unreadable"
        except Exception:  # whatever it is, who waits is answered, and Stripe sends it again
            LOG.exception("events cannot be kept")
            return "failed"
        self.not_kept = ""
        return ""

    async def _health(self) -> Response:
        waiting = await asyncio.to_thread(self.spool.count)
        failing = self.not_known or self.not_kept or self.not_loaded
        counts = {
            "status": "failing" if failing else "ok",
            "reason": failing or None,
            "received": self.received,
            "duplicate": self.duplicates,
            "ignored": dict(self.ignored),
            "refused": dict(self.refused),
            "loaded": self._waited_before + self.received - waiting,
            "waiting": waiting,
        }
        content = msgspec.json.encode(counts)
        return Response(content, 503 if failing else 200, media_type="application/json")


async def _read_body(length: str, receive: Receive) -> bytes:
    """Read a body whose header says that it has ``length`` bytes.

    Raises:
        Refused: it is too large, too slow, or breaks off.
    """
    if length.isdecimal() and int(length) > MAX_BODY:
        raise Refused("large")
    parts, size, more = [], 0, True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused("cut short")
                part = message.get("body", b"")
                parts.append(part)
                size += len(part)
                if size > MAX_BODY:
                    raise Refused("large")
                more = message.get("more_body", False)
    except TimeoutError:
        raise Refused("slow") from None
    return b"".join(parts)
