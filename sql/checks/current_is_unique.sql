-- The current state has one row per key.
-- For each table except rejects
SELECT '$table' AS in_table, stripe_account, concat_ws(' ', $key) AS key, count(*) AS found
FROM main.$table
-- touched: SEMI JOIN touched.$table USING ($object)
GROUP BY stripe_account, $key
HAVING found > 1
-- End
