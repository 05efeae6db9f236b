-- How much is held and owed now, where and in which currency.
-- Grain: one row per Stripe account, currency, category of account and institution.
--   Sums are of accounts that are live. What is stale, or not linked any more, is in columns of its own, and so is what a
--   bank account that was linked twice adds: `current - coalesce(duplicate_current, 0)` counts each once. See `account_balances`.
-- Units: minor units of the currency, and `…_amount` in its major unit. Never add rows of different currencies.
-- Example: SELECT currency, sum(current_amount) AS current FROM balance_totals WHERE category = 'cash' GROUP BY ALL;
CREATE VIEW balance_totals AS
WITH totals AS (
    SELECT
        stripe_account,
        currency,
        category,
        institution_name,
        count(*) FILTER (holding = 'live') AS accounts,
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
    WHERE currency IS NOT NULL
    GROUP BY stripe_account, currency, category, institution_name
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

COMMENT ON VIEW balance_totals IS 'One row per Stripe account, currency, category and institution: what is held and owed now; what is stale or not linked any more stands apart.';
COMMENT ON COLUMN balance_totals.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN balance_totals.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN balance_totals.category IS 'Category of the accounts.';
COMMENT ON COLUMN balance_totals.institution_name IS 'Who holds the accounts.';
COMMENT ON COLUMN balance_totals.accounts IS 'Live accounts, whose balances the sums have.';
COMMENT ON COLUMN balance_totals.current IS 'Sum of current of live accounts, in minor units; negative = owed.';
COMMENT ON COLUMN balance_totals.available IS 'Sum of their available, in minor units.';
COMMENT ON COLUMN balance_totals.used IS 'Sum of their used, in minor units.';
COMMENT ON COLUMN balance_totals.duplicate_accounts IS 'Of the live accounts, those that are the same bank account as another, linked again.';
COMMENT ON COLUMN balance_totals.duplicate_current IS 'What these add to `current`, in minor units: without it each bank account counts once; null = there are none.';
COMMENT ON COLUMN balance_totals.stale_accounts IS 'Accounts that are inactive, or whose balance is 30 days older than the newest known; not in `accounts`.';
COMMENT ON COLUMN balance_totals.stale_current IS 'Sum of their last known current, in minor units; not in `current`.';
COMMENT ON COLUMN balance_totals.unlinked_accounts IS 'Accounts that are disconnected or not listed any more; not in `accounts`.';
COMMENT ON COLUMN balance_totals.unlinked_current IS 'Sum of their last known current, in minor units; not in `current`.';
COMMENT ON COLUMN balance_totals.current_amount IS '`current` in major units.';
COMMENT ON COLUMN balance_totals.available_amount IS '`available` in major units.';
COMMENT ON COLUMN balance_totals.used_amount IS '`used` in major units.';
COMMENT ON COLUMN balance_totals.duplicate_current_amount IS '`duplicate_current` in major units.';
COMMENT ON COLUMN balance_totals.stale_current_amount IS '`stale_current` in major units.';
COMMENT ON COLUMN balance_totals.unlinked_current_amount IS '`unlinked_current` in major units.';
COMMENT ON COLUMN balance_totals.oldest_as_of IS 'When the oldest balance in the sums was computed (UTC).';
