"""Tell whether Stripe sent a body: by the header ``Stripe-Signature: t=<Unix seconds>,v1=<HMAC-SHA-256 of "t.body">``."""

import hmac
import re
from collections.abc import Sequence

from fincon.settings import Secret

TOLERANCE_SECONDS = 300
"""How far Stripe's clock, when it signed, may be from this machine's: the bound of Stripe's own libraries."""

_TIME = re.compile(r"\d{1,12}", re.ASCII)


def refusal(header: str, body: bytes, secrets: Sequence[Secret], now: float) -> str:
    """Return why a body is refused, in one word: ``unsigned``, ``forged`` or ``replayed``; empty where Stripe signed it lately.

    Any of the ``secrets`` will do, and any of several signatures: while a secret is changed for another there are two.
    """
    parts = [part.strip().partition("=")[::2] for part in header.split(",")]
    signed_at = next((value for name, value in parts if name == "t" and _TIME.fullmatch(value)), "")
    signatures = [value.encode() for name, value in parts if name == "v1" and value]
    if not signed_at or not signatures:
        return "unsigned"
    signed = b"%b.%b" % (signed_at.encode(), body)
    expected = [hmac.digest(secret.reveal().encode(), signed, "sha256").hex().encode() for secret in secrets]
    # Each with each, so that how long it takes tells nothing of where they differ.
    if not sum(hmac.compare_digest(one, other) for one in expected for other in signatures):
        return "forged"
    return "replayed" if abs(now - int(signed_at)) > TOLERANCE_SECONDS else ""
