-- An account's balance at the end of each day (UTC), carried forward from the last balance known by then.
CREATE VIEW balance_daily AS
WITH days AS (
    SELECT unnest(generate_series(
        (SELECT min(as_of)::DATE FROM history.balances),
        (SELECT max(observed_at)::DATE FROM history.balances),
        INTERVAL 1 DAY
    ))::DATE AS day
),
known AS (
    SELECT account_id, as_of::DATE AS day, max_by(observed_at, (as_of, observed_at)) AS observed_at
    FROM history.balances
    GROUP BY ALL
),
spans AS (
    SELECT account_id, day AS from_day, observed_at, lead(day) OVER (PARTITION BY account_id ORDER BY day) AS to_day
    FROM known
)
SELECT
    b.account_id,
    d.day,
    b.currency,
    b.current,
    b.available,
    b.used,
    b.current_amount,
    b.available_amount,
    b.used_amount,
    b.as_of,
    d.day > s.from_day AS carried_forward
FROM spans AS s
JOIN days AS d ON d.day >= s.from_day AND (s.to_day IS NULL OR d.day < s.to_day)
JOIN history.balances AS b ON b.account_id = s.account_id AND b.observed_at = s.observed_at;

COMMENT ON VIEW balance_daily IS 'Per account, day (UTC) and currency: the last balance the institution computed by then.';
COMMENT ON COLUMN balance_daily.account_id IS 'The account.';
COMMENT ON COLUMN balance_daily.day IS 'The day, in UTC.';
COMMENT ON COLUMN balance_daily.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN balance_daily.current IS 'Minor units.';
COMMENT ON COLUMN balance_daily.available IS 'Minor units.';
COMMENT ON COLUMN balance_daily.used IS 'Minor units.';
COMMENT ON COLUMN balance_daily.current_amount IS 'Major units.';
COMMENT ON COLUMN balance_daily.available_amount IS 'Major units.';
COMMENT ON COLUMN balance_daily.used_amount IS 'Major units.';
COMMENT ON COLUMN balance_daily.as_of IS 'When the institution computed it.';
COMMENT ON COLUMN balance_daily.carried_forward IS 'True where this day brought no new balance.';
