-- Transactions and owners came with a watermark that says how far they are in.
-- For each table with a feature
SELECT '$table' AS in_table, stripe_account, account_id, run_id
FROM (SELECT DISTINCT stripe_account, account_id, run_id FROM lake.$table) -- touched: FROM (SELECT DISTINCT stripe_account, account_id, run_id FROM touched.$table)
ANTI JOIN (FROM lake.watermarks WHERE feature = '$feature') USING (stripe_account, account_id)
-- End
