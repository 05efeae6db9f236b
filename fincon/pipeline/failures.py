"""Tell what went wrong in a sync: of the machine, or of some of several Stripe accounts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb
from deltalake.exceptions import DeltaError

from fincon.errors import AccountsFailed, BudgetExhausted, FinconError, RunFailed, reason_of
from fincon.storage.s3 import DataPath
from fincon.transforms.wording import pluralize

FAILURES_SHOWN = 10
"""How many of the Stripe accounts that failed are named."""


@contextmanager
def machine_errors(data: DataPath) -> Iterator[None]:
    """Raise what the machine refuses (a full disk, a folder that cannot be written) as a `RunFailed` in two lines."""
    try:
        yield
    except (OSError, duckdb.Error, DeltaError) as error:
        reason = reason_of(error)
        mend = "Give it more with FINCON_MEMORY (megabytes)" if "Out of Memory" in reason else "Mend it"
        raise RunFailed(
            f"The run could not go on in {data}: {reason}",
            f"What was fetched is kept and the views still answer. {mend}, then run the same command again.",
        ) from error


def failed_accounts(
    failures: Mapping[str, FinconError], refused: Mapping[str, Sequence[FinconError]] | None = None
) -> FinconError:
    """Make one error of why some of several Stripe accounts are not in, each named with its own.

    Of those ``refused`` only sessions, transactions or owners are not. Where all that was missing were requests
    (``--max-requests``), return that error as it is.
    """
    real = [(account, e) for account, e in failures.items() if not isinstance(e, BudgetExhausted)]
    parts = [(account, error) for account, errors in (refused or {}).items() for error in errors]
    if not real and not parts:
        return next(iter(failures.values()))
    if len(real + parts) == 1 and (not real or real[0][0] == ""):
        return (real + parts)[0][1]
    lines = [
        f"{account or 'the own account of the key'}: {error}\n        {error.hint}"
        for account, error in (real + parts)[:FAILURES_SHOWN]
    ]
    if more := len(real + parts) - len(lines):
        lines.append(f"… and {more:,} more.")
    told = []
    if real:
        told.append(
            f"{pluralize(len(real), 'Stripe account')} could not be fetched; what was fetched of them is kept."
        )
    if parts:
        of = pluralize(len({account for account, _ in parts}), "Stripe account")
        told.append(f"Of {of} Stripe refused sessions, transactions or owners; all else of them is in.")
    return AccountsFailed(" ".join(told), "\n        ".join(lines))
