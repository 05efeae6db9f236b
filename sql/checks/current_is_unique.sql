-- The current state has one row per key.
SELECT 'accounts' AS in_table, stripe_account, account_id AS key, NULL AS member, count(*) AS found
FROM accounts GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'sessions', stripe_account, session_id, NULL, count(*) AS found
FROM sessions GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'balances', stripe_account, account_id, currency, count(*) AS found
FROM balances GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'refreshes', stripe_account, account_id, feature, count(*) AS found
FROM refreshes GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'session_accounts', stripe_account, session_id, position::VARCHAR, count(*) AS found
FROM session_accounts GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'transactions', stripe_account, transaction_id, NULL, count(*) AS found
FROM transactions GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'owners', stripe_account, account_id, owner_id, count(*) AS found
FROM owners GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'watermarks', stripe_account, account_id, feature, count(*) AS found
FROM watermarks GROUP BY ALL HAVING found > 1;
