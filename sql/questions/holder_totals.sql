-- What each account holder holds and owes in one currency, over all of theirs.
-- Grain: one row per account holder with a live account whose balance is known. The view adds up in US dollars; `holder_totals(target)`
--   in another currency. What a holder has in each currency (`account_holders`) is turned into it by `to_currency`, with the rates that
--   `fincon rates` was given, as of the day of the newest thing known of any balance, and rounded to its minor unit, before it is
--   added. Where a rate is missing there is no total: `missing_rates` names the currencies.
-- Units: minor units of `currency`, and `…_amount` in its major unit.
-- Example: SELECT account_holder_id, current_amount, oldest_rate_day FROM holder_totals('eur') ORDER BY current_amount DESC NULLS LAST;
CREATE MACRO holder_totals(target) AS TABLE
WITH newest AS (
    SELECT make_timestamp(epoch_us(max(observed_at)))::DATE AS on_day FROM lake.balances
),
converted AS (
    SELECT
        stripe_account,
        account_holder_type,
        account_holder_id,
        lower(target) AS currency,
        h.currency AS own_currency,
        to_currency(h.current, h.currency, target, newest.on_day) AS converted,
        to_currency(h.duplicate_current, h.currency, target, newest.on_day) AS duplicate_converted,
        rate_day(h.currency, target, newest.on_day) AS rate_day,
        h.oldest_as_of
    FROM account_holders AS h
    CROSS JOIN newest
    WHERE h.current IS NOT NULL
)
SELECT
    stripe_account,
    account_holder_type,
    account_holder_id,
    currency,
    count(*) AS currencies,
    (CASE WHEN count(*) = count(converted) THEN sum(converted) END)::DECIMAL(38, 0) AS current,
    (CASE WHEN count(*) = count(converted) THEN sum(duplicate_converted) END)::DECIMAL(38, 0) AS duplicate_current,
    major_units(current, currency) AS current_amount,
    major_units(duplicate_current, currency) AS duplicate_current_amount,
    min(rate_day) AS oldest_rate_day,
    max(rate_day) AS newest_rate_day,
    coalesce(list(own_currency ORDER BY own_currency) FILTER (converted IS NULL), []) AS missing_rates,
    min(oldest_as_of) AS oldest_as_of
FROM converted
GROUP BY stripe_account, account_holder_type, account_holder_id, currency;

CREATE VIEW holder_totals AS FROM holder_totals('usd');

COMMENT ON MACRO TABLE holder_totals IS 'As the view of the same name, in the currency `target`.';
COMMENT ON VIEW holder_totals IS 'One row per account holder: what they hold and owe over all currencies, in US dollars, by the rates that `fincon rates` was given.';
COMMENT ON COLUMN holder_totals.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN holder_totals.account_holder_type IS '`customer`, `account`, …';
COMMENT ON COLUMN holder_totals.account_holder_id IS 'Whose accounts they are (`cus_…` or `acct_…`).';
COMMENT ON COLUMN holder_totals.currency IS 'In which currency the sums are: ISO code in lower case.';
COMMENT ON COLUMN holder_totals.currencies IS 'In how many currencies they hold or owe.';
COMMENT ON COLUMN holder_totals.current IS 'Sum of current of live accounts, each currency turned into this one, in minor units; negative = owed; null = a rate is missing.';
COMMENT ON COLUMN holder_totals.duplicate_current IS 'What bank accounts that are linked again add to it, in minor units: see `account_holders`.';
COMMENT ON COLUMN holder_totals.current_amount IS '`current` in major units.';
COMMENT ON COLUMN holder_totals.duplicate_current_amount IS '`duplicate_current` in major units.';
COMMENT ON COLUMN holder_totals.oldest_rate_day IS 'The day of the oldest rate in the sum; null = none was needed, or is there.';
COMMENT ON COLUMN holder_totals.newest_rate_day IS 'The day of the newest rate in the sum; null likewise.';
COMMENT ON COLUMN holder_totals.missing_rates IS 'Currencies of theirs for which there is no rate; while there are any, no sum.';
COMMENT ON COLUMN holder_totals.oldest_as_of IS 'When the oldest balance in the sum was computed (UTC).';
