-- What an account's balance was on days before it was first known here, and between: reckoned back through what was posted.
-- Grain: one row per account, currency and day (UTC) whose balance is known or can be reckoned; nothing is carried forward. A day
--   on which the institution computed a balance has that (`known`). A day before it has the next one known, less what was
--   posted since that day's end (`backcast`): between two known balances where that meets the older one to the unit, else not at all,
--   and `unexplained` says the difference; before the first one as far back as its first transaction, ten years at most, where nothing
--   contradicts: not if the step from the first balance to the second does not meet, if transactions were not read until that balance,
--   or if one was posted at a time not known. Pending and void transactions count nowhere.
--   `balance_backcast_as_of(ts)` knows what was known at ts.
-- Units: minor units of the currency, and `…_amount` in its major unit.
-- Example: SELECT day, balance_amount, basis FROM balance_backcast WHERE account_id = 'fca_…' AND currency = 'usd' ORDER BY day;

-- `ts ||` without a cast: DuckDB then binds a macro of ts when it is called, and not through all it stands on when it is made too.
CREATE MACRO lake.utc(ts) AS (
    ts || CASE
        WHEN regexp_full_match(ts::VARCHAR, '[0-9-]+') THEN ' 00:00:00+00'
        WHEN regexp_full_match(ts::VARCHAR, '[0-9-]+[ T][0-9:.]+') THEN '+00'
        ELSE ''
    END
)::TIMESTAMPTZ;

CREATE MACRO lake.utc_day(ts) AS make_timestamp(epoch_us(ts))::DATE;

-- What is known now stands in a snapshot; of two parts of a union the one whose condition is false is not planned. Partitioned by
-- account too, so that who asks of one account reads its rows alone.
CREATE MACRO lake.transactions_at(ts) AS TABLE
FROM transactions WHERE lake.utc(ts) = 'infinity'::TIMESTAMPTZ
UNION ALL BY NAME
(
    FROM lake.transactions
    WHERE lake.utc(ts) <> 'infinity'::TIMESTAMPTZ AND observed_at <= lake.utc(ts)
    QUALIFY observed_at = max(observed_at) OVER (PARTITION BY stripe_account, account_id, transaction_id)
);

CREATE MACRO lake.known_balances_at(ts) AS TABLE
-- A time after the one at which it was seen cannot be: clocks differ.
SELECT
    stripe_account,
    account_id,
    currency,
    least(as_of, observed_at) AS computed_at,
    max_by(current, observed_at) AS current
FROM lake.balances
WHERE observed_at <= lake.utc(ts) AND currency IS NOT NULL AND current IS NOT NULL AND as_of IS NOT NULL
GROUP BY stripe_account, account_id, currency, computed_at;

-- Of the days before `since` those alone on which the balance is known: an account with such a balance has one day at least.
CREATE MACRO lake.backcast_at(ts, since) AS TABLE
WITH steps AS NOT MATERIALIZED (
    SELECT
        *,
        lag(current) OVER by_time AS from_current,
        lag(lake.utc_day(computed_at)) OVER by_time AS from_day,
        lead(lake.utc_day(computed_at)) OVER by_time AS next_day
    FROM lake.known_balances_at(ts)
    WINDOW by_time AS (PARTITION BY stripe_account, account_id, currency ORDER BY computed_at)
),
-- Balances and what was posted, in one stream by time, so that one account's rows are read once, and no other's.
stream AS NOT MATERIALIZED (
    SELECT *, computed_at AS at_time, NULL::BIGINT AS amount FROM steps
    UNION ALL BY NAME
    SELECT stripe_account, account_id, currency, posted_at AS at_time, amount
    FROM lake.transactions_at(ts)
    WHERE status = 'posted'
),
told AS NOT MATERIALIZED (
    SELECT
        *,
        min(computed_at) OVER onwards AS step_at,
        bool_or(at_time IS NULL) OVER (PARTITION BY stripe_account, account_id, currency) AS has_undated
    FROM stream
    WINDOW onwards AS (
        PARTITION BY stripe_account, account_id, currency ORDER BY at_time
        RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
    )
),
by_day AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        currency,
        step_at,
        lake.utc_day(at_time) AS day,
        coalesce(sum(amount), 0)::DECIMAL(38, 0) AS posted,
        max(current)::DECIMAL(38, 0) AS current,
        max(from_current)::DECIMAL(38, 0) AS from_current,
        max(from_day) AS from_day,
        max(next_day) AS next_day,
        bool_or(has_undated) AS has_undated
    FROM told
    WHERE step_at IS NOT NULL AND at_time IS NOT NULL
    GROUP BY stripe_account, account_id, currency, step_at, day
),
weighed AS NOT MATERIALIZED (
    SELECT
        * EXCLUDE (current, from_day, next_day),
        lake.utc_day(step_at) AS computed_on,
        max(current) OVER step AS known_current,
        max(from_day) OVER step AS from_day,
        max(next_day) OVER step AS next_day,
        min(day) OVER step AS first_day,
        (known_current - max(from_current) OVER step - sum(posted) OVER step)::DECIMAL(38, 0) AS rest,
        (known_current - sum(posted) OVER (
            PARTITION BY stripe_account, account_id, currency, step_at ORDER BY day DESC
        ))::DECIMAL(38, 0) AS before,
        lag(day) OVER (PARTITION BY stripe_account, account_id, currency, step_at ORDER BY day) AS day_before
    FROM by_day
    WINDOW step AS (PARTITION BY stripe_account, account_id, currency, step_at)
),
judged AS NOT MATERIALIZED (
    SELECT
        w.*,
        CASE
            WHEN r.read_until IS NULL OR r.read_until < w.step_at OR w.rest <> 0 THEN w.computed_on
            WHEN w.rest = 0 THEN w.from_day + 1
            WHEN w.has_undated OR first_value(w.rest IGNORE NULLS) OVER by_step <> 0 THEN w.computed_on
            ELSE greatest(w.first_day, w.computed_on - 3653)
        END AS back_to
    FROM weighed AS w
    LEFT JOIN (
        SELECT stripe_account, account_id, max(last_attempted_at) AS read_until
        FROM lake.watermarks
        WHERE observed_at <= lake.utc(ts) AND feature = 'transaction' AND status = 'succeeded' AND refused_at IS NULL
        GROUP BY stripe_account, account_id
    ) AS r USING (stripe_account, account_id)
    WINDOW by_step AS (
        PARTITION BY stripe_account, account_id, currency ORDER BY w.step_at
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
),
days AS NOT MATERIALIZED (
    SELECT *, unnest(
        generate_series(greatest(back_to, coalesce(day_before, back_to), least(since, day)), day - 1, INTERVAL 1 DAY)
        || CASE WHEN day = computed_on AND next_day IS DISTINCT FROM computed_on THEN [day::TIMESTAMP] ELSE [] END
    )::DATE AS balance_day
    FROM judged
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    d.currency,
    d.balance_day AS day,
    CASE WHEN d.balance_day = d.computed_on THEN d.known_current ELSE d.before END AS balance,
    major_units(balance, d.currency) AS balance_amount,
    CASE WHEN d.balance_day = d.computed_on THEN 'known' ELSE 'backcast' END AS basis,
    d.step_at AS reckoned_from,
    (d.computed_on - d.balance_day)::BIGINT AS days_back,
    CASE WHEN d.balance_day < d.computed_on THEN d.rest IS NOT NULL END AS is_met,
    CASE WHEN d.balance_day = d.computed_on THEN d.rest END AS unexplained,
    major_units(unexplained, d.currency) AS unexplained_amount
FROM days AS d
LEFT JOIN accounts AS a USING (stripe_account, account_id);

CREATE MACRO balance_backcast_as_of(ts) AS TABLE FROM lake.backcast_at(ts, '-infinity'::DATE);

CREATE VIEW balance_backcast AS FROM balance_backcast_as_of('infinity');

COMMENT ON MACRO lake.utc IS 'A time; a date or a time without a zone is UTC.';
COMMENT ON MACRO lake.utc_day IS 'The day of a time, in UTC.';
COMMENT ON MACRO TABLE lake.transactions_at IS 'The transactions as they were known at ts; of one account without reading those of others.';
COMMENT ON MACRO TABLE lake.known_balances_at IS 'The balances known at ts, by when they were computed.';
COMMENT ON MACRO TABLE lake.backcast_at IS 'The balances of balance_backcast, of days before `since` the known ones alone.';
COMMENT ON MACRO TABLE balance_backcast_as_of IS 'As the view balance_backcast, by what was known at ts; a date or a time without a zone is UTC.';
COMMENT ON VIEW balance_backcast IS 'One row per account, currency and day (UTC) whose balance is known, or reckoned back through posted transactions from the next that is.';
COMMENT ON COLUMN balance_backcast.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN balance_backcast.account_id IS 'The account.';
COMMENT ON COLUMN balance_backcast.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN balance_backcast.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN balance_backcast.day IS 'The day, in UTC.';
COMMENT ON COLUMN balance_backcast.balance IS 'Before pending transactions, in minor units: the last that was computed on the day, or what it was at the day''s end; negative = owed by the holder.';
COMMENT ON COLUMN balance_backcast.balance_amount IS '`balance` in major units; null where the currency is not known.';
COMMENT ON COLUMN balance_backcast.basis IS '`known` = the institution computed it on this day; `backcast` = reckoned from a later one.';
COMMENT ON COLUMN balance_backcast.reckoned_from IS 'When the known balance was computed that it is, or is reckoned from (UTC).';
COMMENT ON COLUMN balance_backcast.days_back IS 'Days from this one to that; 0 = it is known.';
COMMENT ON COLUMN balance_backcast.is_met IS 'True = the reckoning meets an older known balance to the unit; false = none is known to check it by; null = it is known.';
COMMENT ON COLUMN balance_backcast.unexplained IS 'Of a known balance: its change since the known one before it, less what was posted between; 0 = they agree; null = there is none before it, or it is reckoned.';
COMMENT ON COLUMN balance_backcast.unexplained_amount IS '`unexplained` in major units.';
