-- An object has one version at a time.
SELECT 'periods' AS in_table, stripe_account, account_id AS key, valid_from, 1 AS found
FROM history.accounts WHERE valid_to <= valid_from -- touched: FROM (SELECT *, observed_at AS valid_from FROM touched.accounts) WHERE false
UNION ALL
-- For each table except rejects
SELECT '$table', stripe_account, concat_ws(' ', $key), valid_from, count(*) AS found
FROM history.$table -- touched: FROM (SELECT *, observed_at AS valid_from FROM lake.$table) SEMI JOIN touched.$table USING ($object)
GROUP BY stripe_account, $key, valid_from
HAVING found > 1
-- End
