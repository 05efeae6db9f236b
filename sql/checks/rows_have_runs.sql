-- Every row belongs to a finished run of its Stripe account.
SELECT DISTINCT in_table, stripe_account, run_id FROM (
    SELECT 'accounts' AS in_table, stripe_account, run_id FROM lake.accounts
    UNION ALL SELECT 'sessions', stripe_account, run_id FROM lake.sessions
    UNION ALL SELECT 'session_accounts', stripe_account, run_id FROM lake.session_accounts
    UNION ALL SELECT 'balances', stripe_account, run_id FROM lake.balances
    UNION ALL SELECT 'refreshes', stripe_account, run_id FROM lake.refreshes
    UNION ALL SELECT 'transactions', stripe_account, run_id FROM lake.transactions
    UNION ALL SELECT 'owners', stripe_account, run_id FROM lake.owners
    UNION ALL SELECT 'watermarks', stripe_account, run_id FROM lake.watermarks
    UNION ALL SELECT 'rejects', stripe_account, run_id FROM lake.rejects
) ANTI JOIN runs USING (stripe_account, run_id);
