"""Stripe Financial Connections in Parquet and DuckDB: ``fincon.connect("data").sql("FROM accounts").df()``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fincon.storage.s3 import DataPath
    from fincon.warehouse.read_only import ReadOnlyConnection

    __version__: str

__all__ = ["__version__", "connect"]


def connect(data: "str | DataPath | None" = None) -> "ReadOnlyConnection":
    """Return a read-only DuckDB connection to the views in ``data`` (by default ``FINCON_DATA``, or ``./data``).

    It goes on seeing the same state; connect again to see a newer one.

    Raises:
        UsageError: nothing has been synced into ``data``, or its views cannot be read.
    """
    # DuckDB takes long to import, and much of the command line does without it.
    from fincon.warehouse import connection

    return connection.connect(data)


def __getattr__(name: str) -> str:
    """Return ``__version__``, which is looked up when it is first asked for: that takes as long as ``--help`` may."""
    if name != "__version__":
        raise AttributeError(f"module 'fincon' has no attribute {name!r}")
    from importlib.metadata import version

    return version("fincon")
