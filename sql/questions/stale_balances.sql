-- Active accounts whose balance is more than a day old, or that have none though balances were permitted.
CREATE VIEW stale_balances AS
SELECT
    a.account_id,
    a.institution_name,
    a.balance_as_of,
    date_diff('hour', a.balance_as_of, now()) AS hours_old,
    r.status AS last_refresh_status,
    r.last_attempted_at,
    r.next_refresh_available_at
FROM accounts AS a
LEFT JOIN refreshes AS r ON r.account_id = a.account_id AND r.feature = 'balance'
WHERE a.status = 'active'
  AND list_contains(a.permissions, 'balances')
  AND (a.balance_as_of IS NULL OR a.balance_as_of < now() - INTERVAL 1 DAY);

COMMENT ON VIEW stale_balances IS 'Active accounts with a balance over a day old, or with none though balances were permitted.';
COMMENT ON COLUMN stale_balances.account_id IS 'The account.';
COMMENT ON COLUMN stale_balances.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN stale_balances.balance_as_of IS 'When the institution computed the balance; null = never.';
COMMENT ON COLUMN stale_balances.hours_old IS 'Hours since then.';
COMMENT ON COLUMN stale_balances.last_refresh_status IS 'Outcome of the last attempt.';
COMMENT ON COLUMN stale_balances.last_attempted_at IS 'When the last attempt began.';
COMMENT ON COLUMN stale_balances.next_refresh_available_at IS 'From when another is allowed.';
