-- What each account holder holds and owes.
-- Grain: one row per account holder (a customer or an account of the Stripe account) and currency; accounts with no known
--   balance stand in a row of their own without a currency.
--   Sums are of accounts that are live. What is stale, or not linked any more, is in columns of its own, and so is what a
--   bank account that was linked twice adds: `current - coalesce(duplicate_current, 0)` counts each once. See `account_balances`.
-- Units: minor units of the currency, and `…_amount` in its major unit. Never add rows of different currencies.
-- Example: SELECT account_holder_id, current_amount FROM account_holders WHERE currency = 'usd' ORDER BY current_amount DESC LIMIT 10;
CREATE VIEW account_holders AS
WITH totals AS (
    SELECT
        stripe_account,
        account_holder_type,
        account_holder_id,
        currency,
        count(*) FILTER (holding = 'live') AS accounts,
        count(*) FILTER (holding = 'live' AND status = 'active') AS active_accounts,
        (sum(current) FILTER (holding = 'live'))::DECIMAL(38, 0) AS current,
        (sum(available) FILTER (holding = 'live'))::DECIMAL(38, 0) AS available,
        (sum(used) FILTER (holding = 'live'))::DECIMAL(38, 0) AS used,
        count(*) FILTER (holding = 'live' AND duplicate_of IS NOT NULL) AS duplicate_accounts,
        (sum(current) FILTER (holding = 'live' AND duplicate_of IS NOT NULL))::DECIMAL(38, 0) AS duplicate_current,
        count(*) FILTER (holding = 'stale') AS stale_accounts,
        (sum(current) FILTER (holding = 'stale'))::DECIMAL(38, 0) AS stale_current,
        count(*) FILTER (holding = 'not linked') AS unlinked_accounts,
        (sum(current) FILTER (holding = 'not linked'))::DECIMAL(38, 0) AS unlinked_current,
        min(as_of) FILTER (holding = 'live') AS oldest_as_of
    FROM account_balances
    WHERE account_holder_type IS NOT NULL
    GROUP BY stripe_account, account_holder_type, account_holder_id, currency
)
SELECT
    * EXCLUDE (oldest_as_of),
    major_units(current, currency) AS current_amount,
    major_units(available, currency) AS available_amount,
    major_units(used, currency) AS used_amount,
    major_units(duplicate_current, currency) AS duplicate_current_amount,
    major_units(stale_current, currency) AS stale_current_amount,
    major_units(unlinked_current, currency) AS unlinked_current_amount,
    oldest_as_of
FROM totals;

COMMENT ON VIEW account_holders IS 'One row per account holder and currency: their accounts, and what they hold and owe; what is stale or not linked any more stands apart.';
COMMENT ON COLUMN account_holders.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN account_holders.account_holder_type IS '`customer`, `account`, …';
COMMENT ON COLUMN account_holders.account_holder_id IS 'Whose accounts they are (`cus_…` or `acct_…`).';
COMMENT ON COLUMN account_holders.currency IS 'ISO code in lower case; null = accounts with no known balance.';
COMMENT ON COLUMN account_holders.accounts IS 'Live accounts, whose balances the sums have.';
COMMENT ON COLUMN account_holders.active_accounts IS 'Of these, active now.';
COMMENT ON COLUMN account_holders.current IS 'Sum of current of live accounts, in minor units; negative = owed.';
COMMENT ON COLUMN account_holders.available IS 'Sum of their available, in minor units.';
COMMENT ON COLUMN account_holders.used IS 'Sum of their used, in minor units.';
COMMENT ON COLUMN account_holders.duplicate_accounts IS 'Of the live accounts, those that are the same bank account as another, linked again.';
COMMENT ON COLUMN account_holders.duplicate_current IS 'What these add to `current`, in minor units: without it each bank account counts once; null = there are none.';
COMMENT ON COLUMN account_holders.stale_accounts IS 'Accounts that are inactive, or whose balance is 30 days older than the newest known; not in `accounts`.';
COMMENT ON COLUMN account_holders.stale_current IS 'Sum of their last known current, in minor units; not in `current`.';
COMMENT ON COLUMN account_holders.unlinked_accounts IS 'Accounts that are disconnected or not listed any more; not in `accounts`.';
COMMENT ON COLUMN account_holders.unlinked_current IS 'Sum of their last known current, in minor units; not in `current`.';
COMMENT ON COLUMN account_holders.current_amount IS '`current` in major units.';
COMMENT ON COLUMN account_holders.available_amount IS '`available` in major units.';
COMMENT ON COLUMN account_holders.used_amount IS '`used` in major units.';
COMMENT ON COLUMN account_holders.duplicate_current_amount IS '`duplicate_current` in major units.';
COMMENT ON COLUMN account_holders.stale_current_amount IS '`stale_current` in major units.';
COMMENT ON COLUMN account_holders.unlinked_current_amount IS '`unlinked_current` in major units.';
COMMENT ON COLUMN account_holders.oldest_as_of IS 'When the oldest balance in the sums was computed (UTC).';
