-- What an account's balance was at the end of each day.
-- Grain: one row per account, day (UTC) and currency, from the day of its first known balance to the last day that
--   anything was seen, or to the day before it was seen disconnected. A day that brought no new balance has the last
--   one from before: `carried_forward` marks it, and `days_old` says how wide the gap is.
-- Units: minor units of the currency, and `…_amount` in its major unit.
-- Example: SELECT day, sum(current_amount) AS current FROM balance_daily WHERE currency = 'usd' GROUP BY ALL ORDER BY day;
CREATE VIEW balance_daily AS
WITH known AS (
    SELECT
        stripe_account,
        account_id,
        (as_of AT TIME ZONE 'UTC')::DATE AS day,
        max_by(observed_at, (as_of, observed_at)) AS observed_at
    FROM lake.balances
    GROUP BY ALL
),
ended AS (
    SELECT stripe_account, account_id, min((observed_at AT TIME ZONE 'UTC')::DATE) AS ended_on
    FROM lake.accounts
    WHERE status = 'disconnected'
    GROUP BY ALL
),
seen AS (
    SELECT max((observed_at AT TIME ZONE 'UTC')::DATE) AS last_day FROM lake.balances
),
spans AS (
    SELECT
        stripe_account,
        account_id,
        k.day AS from_day,
        k.observed_at,
        least(
            lead(k.day) OVER (PARTITION BY stripe_account, account_id ORDER BY k.day) - 1,
            e.ended_on - 1,
            seen.last_day
        ) AS to_day
    FROM known AS k
    CROSS JOIN seen
    LEFT JOIN ended AS e USING (stripe_account, account_id)
),
days AS (
    SELECT
        stripe_account,
        account_id,
        observed_at,
        from_day,
        unnest(generate_series(from_day, to_day, INTERVAL 1 DAY))::DATE AS day
    FROM spans
)
SELECT
    stripe_account,
    account_id,
    d.day,
    b.currency,
    b.current,
    b.available,
    b.used,
    b.current_amount,
    b.available_amount,
    b.used_amount,
    b.as_of,
    d.day > d.from_day AS carried_forward,
    (d.day - d.from_day)::BIGINT AS days_old
FROM days AS d
JOIN lake.balances AS b USING (stripe_account, account_id, observed_at);

COMMENT ON VIEW balance_daily IS 'One row per account, day (UTC) and currency: the last balance the institution computed by the end of that day.';
COMMENT ON COLUMN balance_daily.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN balance_daily.account_id IS 'The account.';
COMMENT ON COLUMN balance_daily.day IS 'The day, in UTC.';
COMMENT ON COLUMN balance_daily.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN balance_daily.current IS 'Before pending transactions, in minor units; negative = owed by the holder.';
COMMENT ON COLUMN balance_daily.available IS 'Cash that can be used, in minor units.';
COMMENT ON COLUMN balance_daily.used IS 'Credit in use, in minor units.';
COMMENT ON COLUMN balance_daily.current_amount IS '`current` in major units.';
COMMENT ON COLUMN balance_daily.available_amount IS '`available` in major units.';
COMMENT ON COLUMN balance_daily.used_amount IS '`used` in major units.';
COMMENT ON COLUMN balance_daily.as_of IS 'When the institution computed it (UTC).';
COMMENT ON COLUMN balance_daily.carried_forward IS 'True where this day brought no new balance: a gap, filled with the last one.';
COMMENT ON COLUMN balance_daily.days_old IS 'Days since the balance was computed; 0 = on this day.';
