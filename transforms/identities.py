"""Find where a text names an id: as itself, and neither as part of a longer one nor as a pattern."""

import json
import re
from collections.abc import Iterable

_BETWEEN = r"\s,;<>(){}\[\]"
"""What may stand on either side of an id in a sentence."""

REMOVED = "[removed]"
"""What stands in a text where something stood that may not be kept."""

MASKED = rf"\1\3\5\7{REMOVED}\2\4\6\8"
"""What takes the place of what `names_one_of` finds: the id goes, and what is on either side stays."""

_DISTINCT = re.compile(r"[A-Za-z]+_[^\x00-\x1f\x7f]{1,250}")


_STRIPE_ID = re.compile(r"\b(fca|fcsess|cus|acct)_[^\s\"'),;/?&]+")


def mask_ids(text: str) -> str:
    """Return a text without the ids in it: a ``Request-Id`` says which request it was."""
    return _STRIPE_ID.sub(r"\1_…", text)


def is_distinct(identity: str) -> bool:
    """Return whether an id has a prefix, as all of Stripe's have: any other (`active`, say) may be another word of a text."""
    return _DISTINCT.fullmatch(identity) is not None


def is_id(column: str) -> bool:
    """Return whether a column holds ids alone, so that whatever stands there is one, and no text that may mention some."""
    return column.endswith("_id")


def one_of(identities: Iterable[str]) -> str:
    """Return the pattern, for Python and for DuckDB, that a text matches fully which is one of the ids."""
    return f"(?:{'|'.join(map(re.escape, identities))})"


def names_one_of(identities: Iterable[str]) -> str:
    """Return the pattern, for Python and for DuckDB, that is found where a text names one of the ids.

    It stands between quotes, those of JSON within JSON too; in a path; or in a sentence. So ``cus_1`` is not found in
    ``cus_12``, nor in ``cus_1.*``, which is another odd id. What is on either side are groups, for `MASKED`.
    """
    ids = one_of(dict.fromkeys(form for identity in identities for form in _forms(identity)))
    quoted = r'(")ids("|\\")|(\')ids(\')'
    in_a_path = rf'(/)ids([/?"\'\s{_BETWEEN}\\]|$)'
    in_a_sentence = rf"(^|[{_BETWEEN}=:&]|\\[bfnrt])ids([{_BETWEEN}:&\\]|\.?(?:\s|\"|'|$))"
    return f"{quoted}|{in_a_path}|{in_a_sentence}".replace("ids", ids)


def without_mentions(text: str, identities: Iterable[str]) -> str:
    """Return a text with `REMOVED` in the place of each of the ids that `names_one_of` finds in it."""
    pattern = re.compile(names_one_of(identities))
    return pattern.sub(MASKED, pattern.sub(MASKED, text))  # twice: two may share what is between them


def _forms(identity: str) -> Iterable[str]:
    """Yield how an id is written: as it is, in JSON, in JSON within JSON, and in an address."""
    yield identity
    for in_ascii in (True, False):
        once = json.dumps(identity, ensure_ascii=in_ascii)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=in_ascii)[1:-1]
    yield re.sub(rb"[^\w.~-]", lambda byte: b"%%%02X" % byte[0][0], identity.encode()).decode()
