-- Plot: how old the balances of active accounts are that permit them.
SELECT CASE
        WHEN balance_as_of IS NULL THEN 'never'
        WHEN balance_as_of > now() - INTERVAL 6 HOUR THEN 'under 6 hours'
        WHEN balance_as_of > now() - INTERVAL 1 DAY THEN 'under a day'
        WHEN balance_as_of > now() - INTERVAL 7 DAY THEN 'under a week'
        ELSE 'a week or more'
    END AS age, coalesce(r.status, 'no attempt') AS last_refresh, count(*) AS accounts
FROM accounts AS a LEFT JOIN (FROM refreshes WHERE feature = 'balance') AS r USING (stripe_account, account_id)
WHERE a.status = 'active' AND list_contains(a.permissions, 'balances') GROUP BY ALL
