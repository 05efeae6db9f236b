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

CREATE MACRO lake.told_balances_at(ts) AS TABLE
-- A time after the one at which it was seen cannot be: clocks differ.
SELECT stripe_account, account_id, currency, least(as_of, observed_at) AS computed_at, current, observed_at
FROM lake.balances
WHERE observed_at <= lake.utc(ts) AND currency IS NOT NULL AND current IS NOT NULL AND as_of IS NOT NULL;

CREATE MACRO lake.known_balances_at(ts) AS TABLE
SELECT stripe_account, account_id, currency, computed_at, max_by(current, observed_at) AS current
FROM lake.told_balances_at(ts)
GROUP BY stripe_account, account_id, currency, computed_at;

-- Each balance known, what is left of the step to it from the one before, and the first day that can be reckoned back from it.
-- Joined by the account alone where all transactions are read: of a filter by a second key they are read more slowly than without.
CREATE MACRO lake.balance_steps_at(ts) AS TABLE
WITH steps AS NOT MATERIALIZED (
    SELECT
        *,
        lake.utc_day(computed_at) AS computed_on,
        lag(current) OVER by_time AS from_current,
        lag(lake.utc_day(computed_at)) OVER by_time AS from_day,
        lead(lake.utc_day(computed_at)) OVER by_time AS next_day
    FROM lake.known_balances_at(ts)
    WINDOW by_time AS (PARTITION BY stripe_account, account_id, currency ORDER BY computed_at)
),
-- What was posted before the first balance is in no step: most of it, where the lake is young.
sums AS NOT MATERIALIZED (
    SELECT t.stripe_account, t.account_id, t.currency, s.computed_at, sum(t.amount) AS posted
    FROM (
        SELECT t.*
        FROM lake.transactions_at(ts) AS t
        JOIN (
            SELECT stripe_account, account_id, currency, min(computed_at) AS first_at
            FROM lake.told_balances_at(ts)
            GROUP BY stripe_account, account_id, currency
        ) AS f
            ON t.account_id = f.account_id
            AND coalesce(t.posted_at > f.first_at AND t.stripe_account = f.stripe_account AND t.currency = f.currency, false)
        WHERE t.status = 'posted'
    ) AS t
    ASOF JOIN lake.told_balances_at(ts) AS s
        ON t.stripe_account = s.stripe_account AND t.account_id = s.account_id AND t.currency = s.currency
        AND t.posted_at <= s.computed_at
    GROUP BY t.stripe_account, t.account_id, t.currency, s.computed_at
),
weighed AS NOT MATERIALIZED (
    SELECT
        s.*,
        p.first_day,
        p.has_undated,
        r.read_until,
        (s.current::DECIMAL(38, 0) - s.from_current - coalesce(posted, 0))::DECIMAL(38, 0) AS rest
    FROM steps AS s
    LEFT JOIN sums USING (stripe_account, account_id, currency, computed_at)
    LEFT JOIN (
        SELECT
            stripe_account,
            account_id,
            currency,
            lake.utc_day(min(posted_at)) AS first_day,
            bool_or(posted_at IS NULL) AS has_undated
        FROM lake.transactions_at(ts)
        WHERE status = 'posted'
        GROUP BY stripe_account, account_id, currency
    ) AS p USING (stripe_account, account_id, currency)
    LEFT JOIN (
        SELECT stripe_account, account_id, max(last_attempted_at) AS read_until
        FROM lake.watermarks
        WHERE observed_at <= lake.utc(ts) AND feature = 'transaction' AND status = 'succeeded' AND refused_at IS NULL
        GROUP BY stripe_account, account_id
    ) AS r USING (stripe_account, account_id)
)
SELECT
    stripe_account,
    account_id,
    currency,
    computed_at,
    next_day,
    current,
    rest,
    lead(rest) OVER by_time AS next_rest,
    CASE
        WHEN read_until IS NULL OR read_until < computed_at OR rest <> 0 THEN computed_on
        WHEN rest = 0 THEN from_day + 1
        WHEN has_undated OR next_rest <> 0 THEN computed_on
        ELSE greatest(least(first_day, computed_on), computed_on - 3653)
    END AS back_to
FROM weighed
WINDOW by_time AS (PARTITION BY stripe_account, account_id, currency ORDER BY computed_at);

-- Stretches of days of one balance: of those before `since` the known days alone, and an account with a known balance has one at least.
CREATE MACRO lake.backcast_spans_at(ts, since) AS TABLE
-- Balances and what was posted, in one stream back through time: what is added up along it is the balance before each. At a known
-- one it changes by what the step after that did not explain.
WITH stream AS NOT MATERIALIZED (
    SELECT
        * EXCLUDE (computed_at, back_to, next_rest),
        computed_at AS at_time,
        true AS is_step,
        coalesce(-next_rest, current)::HUGEINT AS change,
        {'computed_at': computed_at, 'back_to': back_to, 'is_met': rest IS NOT NULL} AS step
    FROM lake.balance_steps_at(ts)
    UNION ALL BY NAME
    SELECT t.stripe_account, t.account_id, t.currency, t.posted_at AS at_time, false AS is_step, -t.amount::HUGEINT AS change
    FROM lake.transactions_at(ts) AS t
    JOIN (
        SELECT stripe_account, account_id, currency, max(computed_at) AS last_at
        FROM lake.told_balances_at(ts)
        GROUP BY stripe_account, account_id, currency
    ) AS l
        ON t.account_id = l.account_id
        AND coalesce(t.posted_at <= l.last_at AND t.stripe_account = l.stripe_account AND t.currency = l.currency, false)
    WHERE t.status = 'posted' AND lake.utc_day(t.posted_at) >= since
),
-- What was posted at the time of a balance is in it: there the balance comes first.
walked AS NOT MATERIALIZED (
    SELECT
        * EXCLUDE (at_time, change, step),
        lake.utc_day(at_time) AS day,
        sum(change) OVER back AS before,
        last_value(step IGNORE NULLS) OVER back AS step,
        lead(lake.utc_day(at_time)) OVER back AS day_before,
        lead(is_step) OVER back AS ends_step
    FROM stream
    WINDOW back AS (PARTITION BY stripe_account, account_id, currency ORDER BY at_time DESC, is_step DESC)
),
told AS NOT MATERIALIZED (
    SELECT
        *,
        greatest(step.back_to, CASE WHEN NOT ends_step THEN day_before END, least(since, day)) AS first_day,
        (day_before IS DISTINCT FROM day OR ends_step) AND first_day < day AS has_backcast,
        is_step AND next_day IS DISTINCT FROM day AS has_known
    FROM walked
),
spans AS NOT MATERIALIZED (
    SELECT *, unnest(
        CASE WHEN has_known THEN ['known'] ELSE [] END || CASE WHEN has_backcast THEN ['backcast'] ELSE [] END
    ) AS basis
    FROM told
    WHERE has_known OR has_backcast
)
SELECT
    stripe_account,
    account_id,
    currency,
    CASE WHEN basis = 'known' THEN day ELSE first_day END AS first_day,
    CASE WHEN basis = 'known' THEN day ELSE day - 1 END AS last_day,
    CASE WHEN basis = 'known' THEN current ELSE before END::DECIMAL(38, 0) AS balance,
    basis,
    step.computed_at AS reckoned_from,
    CASE WHEN basis = 'backcast' THEN step.is_met END AS is_met,
    CASE WHEN basis = 'known' THEN rest END AS unexplained
FROM spans;

CREATE MACRO lake.backcast_at(ts, since) AS TABLE
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    d.currency,
    d.day,
    d.balance,
    major_units(d.balance, d.currency) AS balance_amount,
    d.basis,
    d.reckoned_from,
    (lake.utc_day(d.reckoned_from) - d.day)::BIGINT AS days_back,
    d.is_met,
    d.unexplained,
    major_units(d.unexplained, d.currency) AS unexplained_amount
FROM (
    SELECT *, unnest(generate_series(first_day, last_day, INTERVAL 1 DAY))::DATE AS day
    FROM lake.backcast_spans_at(ts, since)
) AS d
LEFT JOIN accounts AS a USING (stripe_account, account_id);

CREATE MACRO balance_backcast_as_of(ts) AS TABLE FROM lake.backcast_at(ts, '-infinity'::DATE);

CREATE VIEW balance_backcast AS FROM balance_backcast_as_of('infinity');

COMMENT ON MACRO lake.utc IS 'A time; a date or a time without a zone is UTC.';
COMMENT ON MACRO lake.utc_day IS 'The day of a time, in UTC.';
COMMENT ON MACRO TABLE lake.transactions_at IS 'The transactions as they were known at ts; of one account without reading those of others.';
COMMENT ON MACRO TABLE lake.told_balances_at IS 'The balances that were told by ts, each time they were, by when they were computed.';
COMMENT ON MACRO TABLE lake.known_balances_at IS 'The balances known at ts, by when they were computed.';
COMMENT ON MACRO TABLE lake.balance_steps_at IS 'The balances known at ts, what the step to each leaves unexplained, and how far back from it can be reckoned.';
COMMENT ON MACRO TABLE lake.backcast_spans_at IS 'Stretches of days of one balance, known or reckoned, of days before `since` the known ones alone.';
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
