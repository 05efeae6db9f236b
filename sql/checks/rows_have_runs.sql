-- Every row belongs to a finished run.
SELECT DISTINCT in_table, run_id FROM (
    SELECT 'accounts' AS in_table, run_id FROM history.accounts
    UNION ALL SELECT 'sessions', run_id FROM history.sessions
    UNION ALL SELECT 'session_accounts', run_id FROM history.session_accounts
    UNION ALL SELECT 'balances', run_id FROM history.balances
    UNION ALL SELECT 'refreshes', run_id FROM history.refreshes
    UNION ALL SELECT 'rejects', run_id FROM history.rejects
) ANTI JOIN runs USING (run_id);
