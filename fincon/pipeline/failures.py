"""Tell what went wrong in a sync: of the machine, or of some of several Stripe accounts."""

from collections.abc import Iterator, Mapping
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


def failed_accounts(failures: Mapping[str, FinconError]) -> FinconError:
    """Make one error of why some of several Stripe accounts are not in, each named with its own.

    Where all that was missing were requests (``--max-requests``), return that error as it is.
    """
    real = {account: e for account, e in failures.items() if not isinstance(e, BudgetExhausted)}
    if not real:
        return next(iter(failures.values()))
    if list(real) == [""]:
        return real[""]
    lines = [
        f"{account or 'the own account of the key'}: {error}\n        {error.hint}"
        for account, error in list(real.items())[:FAILURES_SHOWN]
    ]
    if more := len(real) - len(lines):
        lines.append(f"… and {more:,} more.")
    count = pluralize(len(real), "Stripe account")
    return AccountsFailed(
        f"{count} could not be fetched; what was fetched of them is kept.", "\n        ".join(lines)
    )
