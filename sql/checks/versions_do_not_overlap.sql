-- An object has one version at a time.
SELECT 'accounts' AS in_table, account_id AS key, valid_from, count(*) AS found FROM history.accounts GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'sessions', session_id, valid_from, count(*) AS found FROM history.sessions GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'balances', account_id || ' ' || currency, valid_from, count(*) AS found FROM history.balances GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'refreshes', account_id || ' ' || feature, valid_from, count(*) AS found FROM history.refreshes GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'periods', account_id, valid_from, 1 FROM history.accounts WHERE valid_to <= valid_from;
