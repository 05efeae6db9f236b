"""What DuckDB's own JSON reader makes of the same pages: the same tables' Parquet, but for unknown attributes, which it drops.

The best way found: pages in one file (a file each costs twice as much), one typed read into a table, and a ``COPY``
for each table; one thread, which costs the least CPU.
"""

from pathlib import Path

import duckdb

REFRESH = "STRUCT(last_attempted_at BIGINT, status VARCHAR, next_refresh_available_at BIGINT, id VARCHAR)"
AMOUNTS = "MAP(VARCHAR, BIGINT)"
ACCOUNT = {
    "id": "VARCHAR",
    "category": "VARCHAR",
    "created": "BIGINT",
    "institution_name": "VARCHAR",
    "livemode": "BOOLEAN",
    "status": "VARCHAR",
    "subcategory": "VARCHAR",
    "supported_payment_method_types": "VARCHAR[]",
    "account_holder": "STRUCT(type VARCHAR, account VARCHAR, customer VARCHAR, customer_account VARCHAR)",
    "account_numbers": "STRUCT(identifier_type VARCHAR, status VARCHAR, supported_networks VARCHAR[], "
    "expected_expiry_date BIGINT)[]",
    "balance": f'STRUCT(as_of BIGINT, "current" {AMOUNTS}, type VARCHAR, cash STRUCT(available {AMOUNTS}), '
    f"credit STRUCT(used {AMOUNTS}))",
    "balance_refresh": REFRESH,
    "display_name": "VARCHAR",
    "last4": "VARCHAR",
    "ownership": "VARCHAR",
    "ownership_refresh": REFRESH,
    "permissions": "VARCHAR[]",
    "status_details": "STRUCT(active STRUCT(action VARCHAR, cause VARCHAR, expected_deactivation_date BIGINT))",
    "subscriptions": "VARCHAR[]",
    "transaction_refresh": REFRESH,
}
SEEN = "make_timestamptz(1780000000000000) AS observed_at, 'run' AS run_id"
QUERIES = {
    "accounts": f"""
        SELECT id AS account_id, h.type AS account_holder_type, h.account AS account_holder_account_id,
            h.customer AS account_holder_customer_id, h.customer_account AS account_holder_customer_account_id,
            category, subcategory, status, display_name, institution_name, last4, livemode,
            make_timestamptz(created * 1000000) AS created_at, ownership AS ownership_id, permissions, subscriptions,
            supported_payment_method_types, account_numbers, status_details, balance.type AS balance_type,
            make_timestamptz(balance.as_of * 1000000) AS balance_as_of, NULL::VARCHAR AS extra, {SEEN}
        FROM (SELECT *, account_holder AS h FROM seen)""",
    "balances": f"""
        SELECT id AS account_id, currency, balance."current"[currency] AS current,
            balance.cash.available[currency] AS available, balance.credit.used[currency] AS used,
            balance.type AS balance_type, make_timestamptz(balance.as_of * 1000000) AS as_of, {SEEN}
        FROM (
            SELECT id, balance, unnest(list_distinct(list_concat(map_keys(balance."current"),
                map_keys(balance.cash.available), map_keys(balance.credit.used)))) AS currency
            FROM seen WHERE balance IS NOT NULL
        )""",
    "refreshes": " UNION ALL ".join(
        f"""
        SELECT id AS account_id, '{feature}' AS feature, r.status,
            make_timestamptz(r.last_attempted_at * 1000000) AS last_attempted_at,
            make_timestamptz(r.next_refresh_available_at * 1000000) AS next_refresh_available_at,
            r.id AS refresh_id, {SEEN}
        FROM (SELECT id, {feature}_refresh AS r FROM seen) WHERE r IS NOT NULL"""
        for feature in ("balance", "ownership", "transaction")
    ),
}


def convert(pages: Path, folder: Path) -> dict[str, int]:
    """Pages in one file → Parquet in ``folder``; how many rows of each table."""
    account = ", ".join(f'"{name}" {kind}' for name, kind in ACCOUNT.items())
    read = (
        f"read_json('{pages}', format = 'unstructured', records = true, maximum_object_size = 100000000, "
        f"columns = {{data: 'STRUCT({account})[]'}})"
    )
    with duckdb.connect(config={"threads": 1}) as query:
        query.execute(f"CREATE TEMP TABLE seen AS SELECT unnest(data, max_depth := 2) FROM {read}")
        return {
            name: query.execute(
                f"COPY ({sql}) TO '{folder}/{name}.parquet' (FORMAT parquet, COMPRESSION lz4_raw)"
            ).fetchall()[0][0]
            for name, sql in QUERIES.items()
        }
