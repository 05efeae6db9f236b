-- Up to when Stripe was seen, and by how many runs.
SELECT max(seen_at) AS as_of, (SELECT count(*) FROM runs) AS runs
FROM (
    SELECT max(observed_at) AS seen_at FROM lake.accounts
    UNION ALL SELECT max(observed_at) FROM lake.balances
    UNION ALL SELECT max(observed_at) FROM lake.refreshes
    UNION ALL SELECT max(complete_until) FROM lake.runs
)
