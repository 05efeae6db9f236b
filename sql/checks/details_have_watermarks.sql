-- Transactions and owners came with a watermark that says how far they are in.
SELECT 'transactions' AS in_table, stripe_account, account_id, run_id
FROM (SELECT DISTINCT stripe_account, account_id, run_id FROM lake.transactions)
ANTI JOIN (FROM lake.watermarks WHERE feature = 'transaction') USING (stripe_account, account_id)
UNION ALL
SELECT 'owners', stripe_account, account_id, run_id
FROM (SELECT DISTINCT stripe_account, account_id, run_id FROM lake.owners)
ANTI JOIN (FROM lake.watermarks WHERE feature = 'ownership') USING (stripe_account, account_id);
