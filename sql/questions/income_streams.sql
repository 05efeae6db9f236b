-- Who pays the holder again and again: how much, how steadily, and when next.
-- Grain: one row per account, currency and payer that paid three times or more at a steady pace, by the rules of `recurring_transactions`,
--   of what is `money_in` in `classified_transactions`: transfers between own accounts are no income. Days are those of booking.
--   `income_streams_as_of(ts)` knows what was known at ts. Defined in docs/underwriting.md.
-- Units: minor units of the currency; days.
-- Example: SELECT payee, typical_amount, confidence, next_expected_on FROM income_streams WHERE account_holder_id = 'cus_…';
CREATE MACRO income_streams_as_of(ts) AS TABLE
WITH payments AS NOT MATERIALIZED (
    SELECT
        *,
        lake.utc_day(least(lake.utc(ts), now())) AS today,
        (day - lag(day) OVER (
            PARTITION BY stripe_account, account_id, account_holder_id, currency, payee ORDER BY posted_at, transaction_id
        ))::BIGINT AS days_since
    FROM classified_transactions_as_of(ts)
    WHERE kind = 'money_in' AND payee <> ''
)
SELECT
    stripe_account,
    account_id,
    account_holder_id,
    currency,
    payee,
    count(*) AS occurrences,
    quantile_disc(days_since, 0.5) AS period_days,
    greatest(max(days_since) - period_days, period_days - min(days_since)) AS interval_spread_days,
    quantile_disc(amount, 0.5) AS typical,
    major_units(typical, currency) AS typical_amount,
    max_by(amount, (posted_at, transaction_id)) AS last,
    major_units(last, currency) AS last_amount,
    lake.amount_spread(min(amount), max(amount), typical) AS amount_spread,
    lake.confidence(occurrences, min(amount), max(amount), typical) AS confidence,
    min(day) AS first_on,
    max(day) AS last_on,
    max(day) + period_days::INTEGER AS next_expected_on,
    greatest(any_value(today) - next_expected_on, 0)::BIGINT AS days_late
FROM payments
GROUP BY stripe_account, account_id, account_holder_id, currency, payee
HAVING count(*) >= 3
    AND period_days > 0
    AND interval_spread_days <= greatest(2, period_days // 5)
    AND (occurrences >= 6 OR lake.lie_within(min(amount), max(amount), typical, 5));

CREATE VIEW income_streams AS FROM income_streams_as_of('infinity');

COMMENT ON MACRO TABLE income_streams_as_of IS 'As the view income_streams, by what was known at ts; a date or a time without a zone is UTC.';
COMMENT ON VIEW income_streams IS 'One row per account, currency and payer at a steady pace: how much, how steadily, when next; own transfers are none.';
COMMENT ON COLUMN income_streams.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN income_streams.account_id IS 'The account.';
COMMENT ON COLUMN income_streams.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN income_streams.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN income_streams.payee IS 'Who pays: the letters of the institution''s text, in lower case.';
COMMENT ON COLUMN income_streams.occurrences IS 'How many times.';
COMMENT ON COLUMN income_streams.period_days IS 'The typical (median) number of days from one to the next.';
COMMENT ON COLUMN income_streams.interval_spread_days IS 'How far the interval furthest from it lies.';
COMMENT ON COLUMN income_streams.typical IS 'The median payment, in minor units.';
COMMENT ON COLUMN income_streams.typical_amount IS '`typical` in major units.';
COMMENT ON COLUMN income_streams.last IS 'The newest payment, in minor units.';
COMMENT ON COLUMN income_streams.last_amount IS '`last` in major units.';
COMMENT ON COLUMN income_streams.amount_spread IS 'The largest less the smallest, as a share of the typical; 9999 at most.';
COMMENT ON COLUMN income_streams.confidence IS '`high`: six times or more, amounts within a tenth; `medium`: four, or six within a half; else `low`.';
COMMENT ON COLUMN income_streams.first_on IS 'Day of the first (UTC).';
COMMENT ON COLUMN income_streams.last_on IS 'Day of the last (UTC).';
COMMENT ON COLUMN income_streams.next_expected_on IS 'The last and a period.';
COMMENT ON COLUMN income_streams.days_late IS 'Days since then without a payment; 0 = it is not due yet.';
