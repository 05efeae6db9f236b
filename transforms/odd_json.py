"""JSON that is well-formed and yet too odd for readers: made readable before anything reads it, with a mark at each change.

Half a surrogate pair is no character, and a value that is nested very deeply ends Python's recursion. Either would spoil
the whole page that it stands on; marked, its object alone is rejected.
"""

import re
from typing import Any

MARK = rb"\uFdD0"
"""What stands in a text where something could not be read: the escape of no character, spelt as nobody else spells it."""

MAX_DEPTH = 500
"""How deeply a value may be nested. It leaves half of Python's recursion limit to whoever reads the page."""

_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.S,
)
_HALF_IN_UTF8 = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.S)
_NO_BRACKET = bytes(sorted({*range(256)} - {*b"[]{}"}))


def readable(body: bytes) -> bytes:
    """Return ``body`` with `MARK` for each half of a surrogate pair and for each value nested deeper than `MAX_DEPTH`.

    One that has neither is returned as it is, be it JSON or not.
    """
    if b"\\" in body:
        body = _ESCAPES.sub(_mark_half, body)
    if b"\xed" in body:
        body = _HALF_IN_UTF8.sub(re.escape(MARK), body)
    return _without_deep_values(body) if _may_be_deep(body) else body


def is_marked(raw: Any) -> bool:
    """Return whether something in ``raw`` (bytes of JSON) was changed by `readable`."""
    content = bytes(raw)
    return (
        b"\\" in content and MARK in content
    )  # the search for one byte takes a tenth of the time, and mostly says no


def _mark_half(match: re.Match[bytes]) -> bytes:
    return MARK if match["half"] else match[0]


def _may_be_deep(body: bytes) -> bool:
    """Return whether a value may be nested deeper than `MAX_DEPTH`: False is certain, and said fast."""
    brackets = body.translate(None, _NO_BRACKET)
    for _ in range(MAX_DEPTH):
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not inner:
            return False
        if len(inner) == len(brackets):
            return True  # some stand in texts
        brackets = inner
    return True


def _without_deep_values(body: bytes) -> bytes:
    pieces, depth, kept_to, deep_from = [], 0, 0, 0
    for token in _TOKENS.finditer(body):
        if token[0] in b"[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                deep_from = token.start()
        elif token[0] in b"]}":
            if depth == MAX_DEPTH + 1:
                pieces += [body[kept_to:deep_from], b'"', MARK, b'"']
                kept_to = token.end()
            depth -= 1
    return b"".join([*pieces, body[kept_to:]])
