"""Read keys and credentials from a Prefect server's Secret blocks: by name, so that no parameter holds any of them.

What a block holds is a variable of the environment for as long as a run lasts, for libraries look for credentials there.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from fincon.errors import UsageError
from fincon.settings import data_folder, is_set, quiet_prefect, with_variables
from fincon.storage.s3 import DataPath, S3Path

quiet_prefect()

from prefect.blocks.system import Secret as SecretBlock  # noqa: E402 - after quiet_prefect, which must come first

KEY, PII_KEY, S3_KEY = "STRIPE_API_KEY", "FINCON_PII_KEY", "AWS_ACCESS_KEY_ID"

DEFAULTS = {KEY: "stripe-api-key", PII_KEY: "fincon-pii-key", S3_KEY: "fincon-s3"}
"""Variable → the block that is read where neither the environment has it nor a block is named."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Name Secret blocks; what one that is named holds comes before the environment's."""

    key: str | None = None
    """With the key of Stripe's API."""
    pii_key: str | None = None
    """With FINCON_PII_KEY."""
    s3: str | None = None
    """With AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what else of AWS_… there is to say, as JSON."""


@contextmanager
def secrets_of(blocks: Blocks, data: str | DataPath | None = None) -> Iterator[None]:
    """Have what the blocks hold in the environment, for a run on the lake in ``data``.

    Raises:
        UsageError: as `variables_of` says.
    """
    with with_variables(variables_of(blocks, data)):
        yield


def variables_of(blocks: Blocks, data: str | DataPath | None = None) -> dict[str, str]:
    """Return variable → value, of the blocks that are named, and of the usual ones where the environment has nothing.

    Raises:
        UsageError: there is no block of a name, or it does not hold what it should.
    """
    found = {}
    for variable, name in ((KEY, blocks.key), (PII_KEY, blocks.pii_key)):
        if (value := _held(variable, name)) is not None:
            found[variable] = value
    in_bucket = isinstance(data_folder(data), S3Path)
    if (blocks.s3 or in_bucket) and (value := _held(S3_KEY, blocks.s3)) is not None:
        found |= _credentials(blocks.s3 or DEFAULTS[S3_KEY], value)
    return found


def _held(variable: str, name: str | None) -> str | None:
    """Return what the block holds that is named, or the usual one where the environment lacks the variable."""
    if not name and is_set(variable):
        return None
    try:
        held = SecretBlock.load(name or DEFAULTS[variable]).value.get_secret_value()  # type: ignore[union-attr]
    except ValueError as error:  # Prefect's answer to a block that is not there
        if not name:
            return None
        raise UsageError(
            f"There is no Secret block {name!r} on the Prefect server.",
            f"Make it (Blocks, Secret), or name another; it holds {variable}.",
        ) from error
    return held if isinstance(held, str) else json.dumps(held)


def _credentials(name: str, text: str) -> Mapping[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(
        str(key).startswith("AWS_") and isinstance(value, str) for key, value in found.items()
    ):
        raise UsageError(
            f"The Secret block {name!r} does not hold credentials for S3.",
            'It holds JSON: {"AWS_ACCESS_KEY_ID": "…", "AWS_SECRET_ACCESS_KEY": "…"}, and what else of AWS_… there is to say.',
        )
    return found
