"""Stripe Financial Connections in Parquet and DuckDB."""
