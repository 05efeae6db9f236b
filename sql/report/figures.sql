-- The figures at the top.
SELECT 'accounts linked' AS what, count(*) AS n FROM accounts
UNION ALL SELECT 'active now', count(*) FROM accounts WHERE status = 'active'
UNION ALL SELECT 'institutions', count(*) FROM institutions WHERE institution_name IS NOT NULL
UNION ALL SELECT 'balances over a day old', count(balance_as_of) FROM stale_balances
UNION ALL SELECT 'balances never read', count(*) FROM stale_balances WHERE balance_as_of IS NULL
UNION ALL SELECT 'to be linked again', count(*) FROM relink_needed
