-- Which balances cannot be relied on, for they are old or were never there.
-- Grain: one row per active account that permits balances and has none, or one that is more than a day old.
-- Units: hours, rounded down; times in UTC.
-- Example: SELECT institution_name, count(*) AS accounts, max(hours_old) AS oldest FROM stale_balances GROUP BY ALL;
CREATE VIEW stale_balances AS
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    a.institution_name,
    a.balance_as_of,
    date_sub('hour', a.balance_as_of, now()) AS hours_old,
    r.status AS last_refresh_status,
    r.last_attempted_at,
    r.next_refresh_available_at
FROM accounts AS a
LEFT JOIN (FROM refreshes WHERE feature = 'balance') AS r USING (stripe_account, account_id)
WHERE a.status = 'active' AND a.absent_since IS NULL
  AND list_contains(a.permissions, 'balances')
  AND (a.balance_as_of IS NULL OR a.balance_as_of < now() - INTERVAL 1 DAY);

COMMENT ON VIEW stale_balances IS 'One row per active account with a balance over a day old, or with none though balances were permitted.';
COMMENT ON COLUMN stale_balances.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN stale_balances.account_id IS 'The account.';
COMMENT ON COLUMN stale_balances.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN stale_balances.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN stale_balances.balance_as_of IS 'When the institution computed the balance (UTC); null = never.';
COMMENT ON COLUMN stale_balances.hours_old IS 'Whole hours since then.';
COMMENT ON COLUMN stale_balances.last_refresh_status IS 'Outcome of the last attempt; null = none was made.';
COMMENT ON COLUMN stale_balances.last_attempted_at IS 'When the last attempt began (UTC).';
COMMENT ON COLUMN stale_balances.next_refresh_available_at IS 'From when another is allowed (UTC).';
