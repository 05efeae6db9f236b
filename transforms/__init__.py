"""Pure functions from the bytes that Stripe sent to Arrow tables: no network, disk, clock, Prefect or DuckDB."""
