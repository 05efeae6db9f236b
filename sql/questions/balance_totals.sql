-- How much is held and owed now, where and in which currency.
-- Grain: one row per currency, category of account and institution, over all that is not disconnected.
-- Units: minor units of the currency, and `…_amount` in its major unit. Never add rows of different currencies.
-- Example: SELECT currency, sum(current_amount) AS current FROM balance_totals WHERE category = 'cash' GROUP BY ALL;
CREATE VIEW balance_totals AS
WITH totals AS (
    SELECT
        b.currency,
        a.category,
        a.institution_name,
        count(*) AS accounts,
        sum(b.current)::HUGEINT AS current,
        sum(b.available)::HUGEINT AS available,
        sum(b.used)::HUGEINT AS used,
        min(b.as_of) AS oldest_as_of
    FROM balances AS b
    JOIN accounts AS a USING (stripe_account, account_id)
    WHERE a.status IS DISTINCT FROM 'disconnected'
    GROUP BY ALL
)
SELECT
    * EXCLUDE (oldest_as_of),
    major_units(current, currency) AS current_amount,
    major_units(available, currency) AS available_amount,
    major_units(used, currency) AS used_amount,
    oldest_as_of
FROM totals;

COMMENT ON VIEW balance_totals IS 'One row per currency, category and institution: what is held and owed now; disconnected accounts left out.';
COMMENT ON COLUMN balance_totals.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN balance_totals.category IS 'Category of the accounts.';
COMMENT ON COLUMN balance_totals.institution_name IS 'Who holds the accounts.';
COMMENT ON COLUMN balance_totals.accounts IS 'Accounts with a balance in this currency.';
COMMENT ON COLUMN balance_totals.current IS 'Sum of current, in minor units; negative = owed by the holders.';
COMMENT ON COLUMN balance_totals.available IS 'Sum of available, in minor units.';
COMMENT ON COLUMN balance_totals.used IS 'Sum of used, in minor units.';
COMMENT ON COLUMN balance_totals.current_amount IS 'Sum of current, in major units; negative = owed by the holders.';
COMMENT ON COLUMN balance_totals.available_amount IS 'Sum of available, in major units.';
COMMENT ON COLUMN balance_totals.used_amount IS 'Sum of used, in major units.';
COMMENT ON COLUMN balance_totals.oldest_as_of IS 'When the oldest balance in the sum was computed (UTC).';
