-- A run's rows_added is the number of its rows: none was lost since.
SELECT r.run_id, r.rows_added, count(f.run_id) AS rows_found
FROM runs AS r
LEFT JOIN (
    SELECT run_id FROM history.accounts
    UNION ALL SELECT run_id FROM history.sessions
    UNION ALL SELECT run_id FROM history.session_accounts
    UNION ALL SELECT run_id FROM history.balances
    UNION ALL SELECT run_id FROM history.refreshes
    UNION ALL SELECT run_id FROM history.rejects
) AS f USING (run_id)
GROUP BY ALL
HAVING r.rows_added <> rows_found;
