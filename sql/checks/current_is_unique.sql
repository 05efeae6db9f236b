-- The current state has one row per key.
SELECT 'accounts' AS in_table, account_id AS key, count(*) AS found FROM accounts GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'sessions', session_id, count(*) AS found FROM sessions GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'balances', account_id || ' ' || currency, count(*) AS found FROM balances GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'refreshes', account_id || ' ' || feature, count(*) AS found FROM refreshes GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'session_accounts', session_id || ' ' || position, count(*) AS found FROM session_accounts GROUP BY ALL HAVING found > 1;
