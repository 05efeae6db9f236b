"""What can go wrong, as a person reads it. The command line prints these; anything else is a bug.

FinconError
├── UsageError              wrong arguments, settings or input file                        exit 2
├── StripeError             Stripe refused, or did not answer as its API says              exit 1
│   ├── InvalidKey          401: the key is wrong or revoked
│   ├── PermissionDenied    403: the key lacks a permission
│   │   └── AccountDisconnected 403: the key may not act for this Stripe account
│   ├── CursorNotFound      400: the object to go on after is no more; the run goes on from one before it
│   ├── RetriesExhausted    5xx, 429, silence: no good answer within the tries; a later run may succeed
│   └── NotFound            404: no such object; for a session or an account the run goes on
├── BudgetExhausted         --max-requests is used up; the next run goes on                 exit 0
└── RunFailed               the run cannot go on for a reason of this machine or its data  exit 1
    ├── CorruptPage         a page on disk is not what was written: cut short, or changed
    ├── Stopped             it was stopped from outside; the next run goes on               exit 143
    ├── UnloadableRun       what a run fetched cannot be made into rows; it is set aside
    ├── AccountsFailed      some Stripe accounts are not in; the others are
    └── DataFolderLocked    another run holds the data folder; it may be free later  exit 4
"""

import errno
import os
from dataclasses import dataclass


def printable(text: str) -> str:
    r"""Return ``text`` with what would steer a terminal, or a log, written out (``\x1b``): an answer may hold anything."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )


class FinconError(Exception):
    """The first line says what happened and to what; `hint` says what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(printable(message))
        self.hint = printable(hint)


class UsageError(FinconError):
    """Wrong arguments, settings or input file."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What Stripe answered in place of what was asked for."""

    status: int
    """The HTTP status; `transforms.page.UNREADABLE` where it was 200, with a body that is not what the API promises."""
    code: str
    """Stripe's code, or empty."""
    words: str
    """What Stripe said, or what is wrong with the answer, in one line without personal data; or empty."""
    request: str
    """Path and query, as sent."""
    request_id: str
    date: int
    """When, by Stripe's clock; Unix seconds."""


class StripeError(FinconError):
    """Stripe refused, or did not answer as its API says. The message names the request and its ``Request-Id``."""

    def __init__(self, message: str, hint: str = "", refusal: Refusal | None = None) -> None:
        super().__init__(message, hint)
        self.refusal = refusal
        """The answer; None where there was none that could be read as far as its headers."""
        self.ends_stage_alone = False
        """Whether it ends the stage in which it came and no other: what is on disk is whole, and the run goes on."""


class InvalidKey(StripeError):
    """401: the key is wrong or revoked."""


class PermissionDenied(StripeError):
    """403: the key lacks a permission, which the message names."""


class AccountDisconnected(PermissionDenied):
    """403: the key may not act for this Stripe account, which was disconnected or never was of the platform."""


class CursorNotFound(StripeError):
    """400: the object to go on after is no more."""


class RetriesExhausted(StripeError):
    """No good answer within the tries, for a reason that may pass."""


class NotFound(StripeError):
    """404: there is no such object. Stripe said so: there always is a ``refusal``."""

    refusal: Refusal


class UnexpectedAnswer(Exception):
    """A body that is JSON but not what the API promises; the client turns it into a `StripeError`."""


class BudgetExhausted(FinconError):
    """``--max-requests`` is used up. What was fetched is kept, and the next run goes on from there."""

    exit_code = 0


class RunFailed(FinconError):
    """The run cannot go on for a reason of this machine or its data."""


class Stopped(RunFailed):
    """It was stopped from outside. What was fetched is kept, and the next run goes on from there."""

    exit_code = 143  # as of a process that SIGTERM ends

    def __init__(
        self, message: str = "stopped. What was fetched is kept: run the same command again to go on."
    ) -> None:
        super().__init__(message)


class CorruptPage(RunFailed):
    """A page on disk is not what was written: cut short, or changed."""


class UnloadableRun(RunFailed):
    """What a run fetched cannot be made into rows, or the rows are not what was fetched."""


class AccountsFailed(RunFailed):
    """Some Stripe accounts are not in; the hint says of each why, in two lines."""


class DataFolderLocked(RunFailed):
    """Another run holds the data folder."""

    exit_code = 4  # its own, so that cron can tell a turn that was missed from a failure


def reason_of(error: Exception) -> str:
    """Say why the machine refused, in one line: a full disk is named as such, whichever library met it."""
    text = str(error)
    for code in (errno.ENOSPC, errno.EFBIG):
        if os.strerror(code) in text or f"os error {code}" in text:
            return os.strerror(code)
    if text == "Failed to commit transaction: 0":
        return "another writer committed in between"
    if text.startswith("Traceback"):  # DuckDB, of a file that Python reads for it
        text = next(line for line in text.split("\n")[1:] if line and not line.startswith(" "))
    if "\u21b3" in text:  # delta-rs, which draws how it came to it: the last of its lines is the reason
        text = text.rstrip().rpartition("\u21b3")[2].removeprefix("\x1b[0m").strip()
    return text.split("\n", 1)[0]
