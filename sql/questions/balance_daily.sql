-- What an account's balance was at the end of each day.
-- Grain: one row per account, day (UTC) and currency, from the day on which its balance was first known here to the last
--   day on which anything was seen. Days on which it was disconnected, or on no list any more, have none. A day
--   that brought no new balance has the last one from before: `carried_forward` marks it, `days_old` says how old it is.
--   `balance_daily(true)` adds what is only implied: days since the institution computed the first balance known, and
--   before that was known here, a year of them at most. Accounts linked before the first sync are all in these, and
--   accounts that have left since are not: sums by day over them mislead.
-- Units: minor units of the currency, and `…_amount` in its major unit.
-- Example: SELECT day, sum(current_amount) AS current FROM balance_daily WHERE currency = 'usd' GROUP BY ALL ORDER BY day;
CREATE MACRO balance_daily(include_implied) AS TABLE
WITH versions AS NOT MATERIALIZED (
    -- A time after the one at which it was seen cannot be: clocks differ.
    SELECT
        stripe_account,
        account_id,
        observed_at,
        least(any_value(as_of), observed_at) AS computed_at
    FROM lake.balances
    GROUP BY stripe_account, account_id, observed_at
),
events AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        make_timestamp(epoch_us(computed_at))::DATE AS day,
        max_by(observed_at, (computed_at, observed_at)) AS observed_at,
        min(make_timestamp(epoch_us(observed_at))::DATE) AS known_on,
        NULL::BOOLEAN AS is_linked
    FROM versions
    GROUP BY stripe_account, account_id, day
    UNION ALL
    SELECT
        stripe_account,
        account_id,
        make_timestamp(epoch_us(least(absent_since, observed_at)))::DATE AS day,
        NULL,
        NULL,
        max_by(status IS DISTINCT FROM 'disconnected' AND absent_since IS NULL, observed_at)
    FROM lake.accounts
    GROUP BY stripe_account, account_id, day
),
days_with_events AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        day,
        max(observed_at) AS observed_at,
        min(known_on) AS known_on,
        bool_and(is_linked) AS is_linked
    FROM events
    GROUP BY stripe_account, account_id, day
),
timeline AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        day AS from_day,
        lead(day) OVER so_far - 1 AS to_day,
        last_value(observed_at IGNORE NULLS) OVER so_far AS observed_at,
        last_value(CASE WHEN observed_at IS NOT NULL THEN day END IGNORE NULLS) OVER so_far AS computed_on,
        last_value(is_linked IGNORE NULLS) OVER so_far AS is_linked,
        min(known_on) OVER (PARTITION BY stripe_account, account_id) AS known_on
    FROM days_with_events
    WINDOW so_far AS (PARTITION BY stripe_account, account_id ORDER BY day)
),
seen AS NOT MATERIALIZED (
    SELECT make_timestamp(epoch_us(max(seen_at)))::DATE AS last_day
    FROM (
        SELECT max(observed_at) AS seen_at FROM lake.accounts
        UNION ALL
        SELECT max(observed_at) FROM lake.balances
        UNION ALL
        SELECT max(observed_at) FROM lake.refreshes
        UNION ALL
        SELECT max(complete_until) FROM lake.runs
    )
),
days AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        t.observed_at,
        t.computed_on,
        t.known_on,
        unnest(generate_series(
            greatest(t.from_day, CASE WHEN include_implied THEN t.known_on - 366 ELSE t.known_on END),
            coalesce(t.to_day, seen.last_day),
            INTERVAL 1 DAY
        ))::DATE AS day
    FROM timeline AS t
    CROSS JOIN seen
    WHERE t.observed_at IS NOT NULL AND t.is_linked IS DISTINCT FROM false
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    d.day,
    b.currency,
    b.current,
    b.available,
    b.used,
    b.current_amount,
    b.available_amount,
    b.used_amount,
    b.as_of,
    d.day > d.computed_on AS carried_forward,
    (d.day - d.computed_on)::BIGINT AS days_old,
    CASE WHEN d.day < d.known_on THEN 'implied' ELSE 'known' END AS basis
FROM days AS d
JOIN lake.balances AS b USING (stripe_account, account_id, observed_at)
LEFT JOIN accounts AS a USING (stripe_account, account_id)
WHERE b.currency IS NOT NULL;

CREATE VIEW balance_daily AS FROM balance_daily(false);

COMMENT ON MACRO TABLE balance_daily IS 'As the view of the same name; with `true`, also the days before the first balance known was known here.';
COMMENT ON VIEW balance_daily IS 'One row per account, day (UTC) and currency: the last balance the institution computed by the end of that day, as far as it was known and the account linked.';
COMMENT ON COLUMN balance_daily.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN balance_daily.account_id IS 'The account.';
COMMENT ON COLUMN balance_daily.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
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
COMMENT ON COLUMN balance_daily.basis IS '`known` = an account whose balance was known here by this day; `implied` = `balance_daily(true)` alone has it: the first balance known, carried back to when it was computed.';
