-- Of whom no balance is known that is less than a day old, on any account.
-- Grain: one row per account holder with an account that is listed and not disconnected.
-- Units: hours, rounded down; times in UTC.
-- Example: SELECT account_holder_id, accounts, hours_old FROM holders_without_fresh_balance ORDER BY hours_old DESC NULLS FIRST;
CREATE VIEW holders_without_fresh_balance AS
SELECT
    stripe_account,
    account_holder_type,
    account_holder_id,
    count(DISTINCT account_id) AS accounts,
    count(DISTINCT account_id) FILTER (status = 'active') AS active_accounts,
    max(as_of) AS newest_as_of,
    date_sub('hour', max(as_of), now()) AS hours_old
FROM account_balances
WHERE account_holder_id IS NOT NULL AND holding <> 'not linked'
GROUP BY stripe_account, account_holder_type, account_holder_id
HAVING coalesce(max(as_of) < now() - INTERVAL 1 DAY, true);

COMMENT ON VIEW holders_without_fresh_balance IS 'One row per account holder of whom no balance is known that is less than a day old.';
COMMENT ON COLUMN holders_without_fresh_balance.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN holders_without_fresh_balance.account_holder_type IS '`customer`, `account`, …';
COMMENT ON COLUMN holders_without_fresh_balance.account_holder_id IS 'Who (`cus_…` or `acct_…`).';
COMMENT ON COLUMN holders_without_fresh_balance.accounts IS 'Their accounts that are listed and not disconnected.';
COMMENT ON COLUMN holders_without_fresh_balance.active_accounts IS 'Of these, active now: a refresh of them would help.';
COMMENT ON COLUMN holders_without_fresh_balance.newest_as_of IS 'When the newest of their balances was computed (UTC); null = none is known.';
COMMENT ON COLUMN holders_without_fresh_balance.hours_old IS 'Whole hours since then.';
