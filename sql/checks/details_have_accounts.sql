-- Every transaction, owner and watermark belongs to a known account.
-- For each table with account_id except accounts, session_accounts, balances, refreshes
SELECT '$table' AS in_table, stripe_account, account_id, observed_at
FROM lake.$table -- touched: FROM touched.$table
ANTI JOIN lake.accounts USING (stripe_account, account_id)
-- End
