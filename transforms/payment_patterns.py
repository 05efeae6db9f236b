"""By what text of an institution a payment is known: fees for what was not covered, and payments of loans."""

from collections.abc import Iterable
from typing import NamedTuple

KINDS = ("overdraft_fee", "returned_fee", "loan_payment")
"""What a pattern may tell; of two that fit, the first here counts."""


class Pattern(NamedTuple):
    """A regular expression (RE2) for the description in lower case, of texts in a language."""

    kind: str
    language: str
    pattern: str


OURS = tuple(
    Pattern(*one)
    for one in (
        (
            *("overdraft_fee", "en"),
            r"\b(overdraft|overdrawn)\b.*\b(fee|charge|interest)\b|\b(fee|charge)\b.*\boverdraft\b",
        ),
        ("overdraft_fee", "es", r"\b(comisi[oó]n|cargo)\b.*\b(descubierto|sobregiro)\b"),
        ("overdraft_fee", "fr", r"\b(frais|commission|agios)\b.*d[eé]couvert|\bcommission d.?intervention\b"),
        ("overdraft_fee", "de", r"[uü]e?berziehungs(zins|geb[uü]hr|entgelt)"),
        (
            *("returned_fee", "en"),
            r"\b(nsf|non.?sufficient|insufficient funds|returned?)\b.*\b(fee|charge)\b|\b(fee|charge)\b.*\b(nsf|returned)\b",
        ),
        ("returned_fee", "es", r"\b(comisi[oó]n|cargo)\b.*(devoluci[oó]n|devuelto|impagado)"),
        ("returned_fee", "fr", r"\bfrais\b.*(rejet|impay[eé])"),
        (
            "returned_fee",
            "de",
            r"r[uü]e?cklastschrift.*(geb[uü]e?hr|entgelt)|(geb[uü]e?hr|entgelt).*r[uü]e?cklastschrift",
        ),
        ("loan_payment", "en", r"\b(loan|mortgage|student ln|auto finance)\b"),
        ("loan_payment", "es", r"\b(pr[eé]stamo|hipoteca)\b"),
        ("loan_payment", "fr", r"\b(pr[eê]t immo|pr[eê]t perso|[eé]ch[eé]ance (de )?(pr[eê]t|cr[eé]dit))"),
        ("loan_payment", "de", r"\b(darlehen|kreditrate|hypothek)"),
    )
)
"""Those that fincon knows. A lender adds its own."""


def combined(patterns: Iterable[Pattern], *kinds: str) -> str:
    """Return one expression that fits where any pattern of these kinds does."""
    return "|".join(f"(?:{one.pattern})" for one in patterns if one.kind in kinds) or "[^\\s\\S]"
