"""A Stripe API whose every object, clock and answer a test sets by hand, over real HTTP on loopback.

The sandbox's world follows from a seed; here a test says what is there: accounts in the list's order, sessions, events,
transactions and owners, as the JSON that is to be sent.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PREFIX = "/v1/financial_connections"
START = 1_795_780_000
"""The clock of a new server, in Unix seconds."""

Object = dict[str, Any]
Query = dict[str, list[str]]


@dataclass
class Answer:
    """What is sent: a body (JSON, or bytes as they are), a status, and the ``Date``; None leaves that header out."""

    body: Any
    status: int = 200
    date: str | None = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class ScriptedStripe:
    """What the server has, all of it to be changed at any time."""

    accounts: list[Object] = field(default_factory=list)
    """Newest first."""
    sessions: dict[str, Object] = field(default_factory=dict)
    """By id, without ``accounts``, which follow from ``session_accounts``."""
    session_accounts: dict[str, list[str]] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    """Newest first."""
    transactions: dict[str, list[Object]] = field(default_factory=dict)
    """By account."""
    owners: dict[str, list[Object]] = field(default_factory=dict)
    """By account."""
    clock: int = START
    """Unix seconds, as ``Date`` tells them."""
    page_size: int = 100
    """No page has more objects, whatever limit is asked for."""
    intercept: Callable[[str, Query], Answer | None] = lambda path, query: None
    """Asked first; what it answers is sent."""
    requests: list[str] = field(default_factory=list)
    """Path and query of each request."""
    connected: "dict[str, ScriptedStripe]" = field(default_factory=dict)
    """By id, what answers where a request names a connected account."""
    url: str = ""

    def answer(self, target: str) -> Answer:
        """The answer to ``GET target``."""
        self.requests.append(target)
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        found = self.intercept(parts.path, query)
        return found if found is not None else self._found(parts.path, query)

    def _found(self, path: str, query: Query) -> Answer:
        if path == "/v1/events":
            since = int(query.get("created[gte]", ["0"])[0])
            types = {*query.get("types[]", []), *query.get("type", [])}
            found = [e for e in self.events if e["created"] >= since and (not types or e["type"] in types)]
            return self._page(found, query, path)
        if path == f"{PREFIX}/transactions":
            return self._page(self.transactions.get(query["account"][0], []), query, path)
        if path.startswith(f"{PREFIX}/sessions/"):
            return self._session(path.rpartition("/")[2])
        if path == f"{PREFIX}/accounts":
            return self._page(self._listed(query), query, path)
        if path.startswith(f"{PREFIX}/accounts/"):
            account_id, _, what = path.removeprefix(f"{PREFIX}/accounts/").partition("/")
            account_id = unquote(account_id)
            if what == "owners":
                return self._page(self.owners.get(account_id, []), query, path)
            one = next((a for a in self.accounts if a["id"] == account_id), None)
            return Answer(one) if one is not None else missing(account_id, "account", 404)
        return missing(path, "path", 404)

    def _listed(self, query: Query) -> list[Object]:
        if "session" not in query:
            return self.accounts
        known = {account.get("id"): account for account in self.accounts}
        return [known[i] for i in self.session_accounts.get(query["session"][0], []) if i in known]

    def _session(self, session_id: str) -> Answer:
        if session_id not in self.sessions:
            return missing(session_id, "session", 404)
        query = {"session": [session_id], "limit": ["10"]}
        page = self._page(self._listed(query), query, f"{PREFIX}/accounts").body
        return Answer({**self.sessions[session_id], "accounts": page})

    def _page(self, objects: list[Object], query: Query, path: str) -> Answer:
        size = min(self.page_size, int(query.get("limit", ["10"])[0]))
        first = 0
        if "starting_after" in query:
            after = query["starting_after"][0]
            ids = [one.get("id") for one in objects if isinstance(one, dict)]
            if after not in ids:
                return missing(after, "starting_after", 400)
            first = ids.index(after) + 1
        page = objects[first : first + size]
        return Answer({"object": "list", "data": page, "has_more": first + size < len(objects), "url": path})


def missing(what: str, param: str, status: int) -> Answer:
    """Stripe's answer to what is not there."""
    error = {
        "type": "invalid_request_error",
        "code": "resource_missing",
        "param": param,
        "message": f"No such object: '{what}'",
    }
    return Answer({"error": error}, status)


def account(account_id: str, current: int = 100, created: int = START - 1000, **more: Any) -> Object:
    """An account with a balance in USD and a balance refresh, and nothing odd."""
    return {
        "id": account_id,
        "object": "financial_connections.account",
        "account_holder": {"type": "customer", "customer": "cus_1"},
        "balance": {
            "as_of": created,
            "type": "cash",
            "current": {"usd": current},
            "cash": {"available": {"usd": current}},
        },
        "balance_refresh": {
            "last_attempted_at": created,
            "next_refresh_available_at": created + 3600,
            "status": "succeeded",
        },
        "category": "cash",
        "created": created,
        "display_name": "Everyday",
        "institution_name": "Case Bank",
        "last4": "1234",
        "livemode": False,
        "ownership": None,
        "ownership_refresh": None,
        "permissions": ["balances"],
        "status": "active",
        "status_details": {"active": None},
        "subcategory": "checking",
        "subscriptions": [],
        "supported_payment_method_types": ["us_bank_account"],
        "transaction_refresh": None,
        **more,
    }


def session(session_id: str, **more: Any) -> Object:
    """A session of a customer; its accounts are those of `ScriptedStripe.session_accounts`."""
    return {
        "id": session_id,
        "object": "financial_connections.session",
        "account_holder": {"type": "customer", "customer": "cus_1"},
        "client_secret": f"{session_id}_secret_0",
        "filters": {"account_subcategories": ["checking"], "countries": ["US"]},
        "livemode": False,
        "permissions": ["balances"],
        "prefetch": [],
        "return_url": None,
        **more,
    }


def event(
    event_id: str, of: Object, created: int, what: str = "refreshed_balance", version: str = ""
) -> Object:
    """An event of an account as it was; ``version`` is the ``api_version`` in which it is rendered."""
    return {
        "id": event_id,
        "object": "event",
        **({"api_version": version} if version else {}),
        "created": created,
        "type": f"financial_connections.account.{what}",
        "livemode": False,
        "data": {"object": of},
    }


@contextmanager
def serving(stripe: ScriptedStripe) -> Iterator[ScriptedStripe]:
    """The server of ``stripe``; its ``url`` is set."""
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:  # one answer at a time, so that a test's changes fall between two
                whose = stripe.connected.get(self.headers.get("Stripe-Account", ""), stripe)
                found = whose.answer(self.path)
                date = formatdate(whose.clock, usegmt=True) if found.date == "" else found.date
            body = found.body if isinstance(found.body, bytes) else json.dumps(found.body, indent=2).encode()
            self.send_response_only(found.status)
            if date is not None:
                self.send_header("Date", date)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Request-Id", f"req_{len(stripe.requests)}")
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stripe.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stripe
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
