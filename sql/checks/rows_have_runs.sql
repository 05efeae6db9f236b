-- Every row belongs to a finished run of its Stripe account.
-- For each table
SELECT DISTINCT '$table' AS in_table, stripe_account, run_id
FROM lake.$table -- touched: FROM touched.$table
ANTI JOIN runs USING (stripe_account, run_id) -- touched: ANTI JOIN touched.runs USING (stripe_account, run_id)
-- End
