-- Who pays the holder again and again: how much, how steadily, and when next.
-- Grain: one row per account, currency and payer that paid three times or more at a steady pace, by the rules of `recurring_transactions`,
--   of what is `money_in` in `classified_transactions`: transfers between own accounts are no income. Days are those of booking.
--   `income_streams_as_of(ts)` knows what was known at ts. Defined in docs/underwriting.md.
-- Units: minor units of the currency; days.
-- Example: SELECT payee, typical_amount, confidence, next_expected_on FROM income_streams WHERE account_holder_id = 'cus_…';
CREATE MACRO income_streams_as_of(ts) AS TABLE
-- The days of a payer in a list, as in recurring_transactions: to number all payments by a window takes four times as long.
WITH payers AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        account_holder_id,
        currency,
        payee,
        count(*) AS occurrences,
        list_sort(list(day)) AS days,
        list_sort(list(amount)) AS amounts,
        max_by(amount, (posted_at, transaction_id)) AS last
    FROM classified_transactions_as_of(ts)
    WHERE kind = 'money_in'
    GROUP BY stripe_account, account_id, account_holder_id, currency, payee
    -- Counted, for of a condition on the payee DuckDB would tell it twice for each row.
    HAVING count(*) FILTER (payee <> '') >= 3 AND (count(*) >= 6 OR lake.lie_within(min(amount), max(amount), max(amount), 5))
),
spaced AS NOT MATERIALIZED (
    SELECT
        *,
        amounts[(occurrences + 1) // 2] AS typical,
        list_sort([(pair[2] - pair[1])::BIGINT FOR pair IN list_zip(days[:-2], days[2:])]) AS spaces
    FROM payers
)
SELECT
    stripe_account,
    account_id,
    account_holder_id,
    currency,
    payee,
    occurrences,
    spaces[occurrences // 2] AS period_days,
    greatest(spaces[-1] - period_days, period_days - spaces[1]) AS interval_spread_days,
    typical,
    major_units(typical, currency) AS typical_amount,
    last,
    major_units(last, currency) AS last_amount,
    lake.amount_spread(amounts[1], amounts[-1], typical) AS amount_spread,
    lake.confidence(occurrences, amounts[1], amounts[-1], typical) AS confidence,
    days[1] AS first_on,
    days[-1] AS last_on,
    last_on + period_days::INTEGER AS next_expected_on,
    greatest(lake.utc_day(least(lake.utc(ts), now())) - next_expected_on, 0)::BIGINT AS days_late
FROM spaced
WHERE period_days > 0
    AND interval_spread_days <= greatest(2, period_days // 5)
    AND (occurrences >= 6 OR lake.lie_within(amounts[1], amounts[-1], typical, 5));

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
