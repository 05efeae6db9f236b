-- An object has one version at a time.
SELECT 'accounts' AS in_table, stripe_account, account_id AS key, NULL AS member, valid_from, count(*) AS found
FROM history.accounts GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'sessions', stripe_account, session_id, NULL, valid_from, count(*) AS found
FROM history.sessions GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'session_accounts', stripe_account, session_id, position::VARCHAR, valid_from, count(*) AS found
FROM history.session_accounts GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'balances', stripe_account, account_id, currency, valid_from, count(*) AS found
FROM history.balances GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'refreshes', stripe_account, account_id, feature, valid_from, count(*) AS found
FROM history.refreshes GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'transactions', stripe_account, transaction_id, NULL, valid_from, count(*) AS found
FROM history.transactions GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'owners', stripe_account, account_id, owner_id, valid_from, count(*) AS found
FROM history.owners GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'watermarks', stripe_account, account_id, feature, valid_from, count(*) AS found
FROM history.watermarks GROUP BY ALL HAVING found > 1
UNION ALL
SELECT 'periods', stripe_account, account_id, NULL, valid_from, 1
FROM history.accounts WHERE valid_to <= valid_from;
