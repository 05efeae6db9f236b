-- Every transaction, owner and watermark belongs to a known account.
SELECT 'transactions' AS in_table, stripe_account, account_id, observed_at
FROM lake.transactions ANTI JOIN lake.accounts USING (stripe_account, account_id)
UNION ALL
SELECT 'owners', stripe_account, account_id, observed_at
FROM lake.owners ANTI JOIN lake.accounts USING (stripe_account, account_id)
UNION ALL
SELECT 'watermarks', stripe_account, account_id, observed_at
FROM lake.watermarks ANTI JOIN lake.accounts USING (stripe_account, account_id);
