-- Is a debit safe now? The facts of each account: what is available and how old that is, what usually leaves until the next refresh,
-- how low it was on such days, what is due. No score is given.
-- Grain: one row per account whose balance in the currency is known, by `debit_risk(amount, currency)`. The time looked at goes from
--   when the balance was computed to the earliest next refresh, or to now where that is past; longer than 30 days, nothing is said of it.
--   What usually leaves is the median, over each stretch of as many days in the last 90, of what was posted out of the account; null where
--   fewer than 14 such stretches were observed. Low balances are those of `balance_backcast` in the last year: on this day of the week, and on
--   this day of the month, the last day of a month that is too short.
-- Units: `amount` is in minor units, whole; so are all figures. Days are UTC.
-- Example: SELECT account_id, available, hours_old, left_available FROM debit_risk(12500, 'usd') WHERE left_available < usually_out;
-- Parameters and columns must not be of one name: a macro takes the one for the other.
CREATE MACRO lake.debit_risk_at(asked_amount, asked_currency, clock) AS TABLE
WITH held AS NOT MATERIALIZED (
    SELECT
        b.stripe_account,
        b.account_id,
        b.currency AS code,
        b.current,
        b.available,
        b.as_of,
        lake.whole_units(asked_amount)::DECIMAL(38, 0) AS debit,
        lake.utc_day(clock) AS today,
        date_sub('hour', b.as_of, clock) AS hours_old,
        r.status AS last_refresh_status,
        r.next_refresh_available_at,
        greatest(r.next_refresh_available_at, CASE WHEN r.next_refresh_available_at IS NOT NULL THEN clock END) AS until,
        CASE
            WHEN lake.utc_day(until) - lake.utc_day(b.as_of) <= 30
            THEN greatest(lake.utc_day(until) - lake.utc_day(b.as_of), 1)::INTEGER
        END AS days
    FROM balances AS b
    LEFT JOIN (FROM refreshes WHERE feature = 'balance') AS r USING (stripe_account, account_id)
    WHERE b.currency = lower(asked_currency)
),
-- An account's days in one row, so that they are read once, and of whom is asked alone.
posted AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        min(day) AS first_day,
        map_from_entries(list((day, out)) FILTER (day >= lake.utc_day(clock) - 90)) AS out_on
    FROM (
        SELECT
            t.stripe_account,
            t.account_id,
            lake.utc_day(t.posted_at) AS day,
            coalesce(sum(-t.amount::HUGEINT) FILTER (t.amount < 0), 0)::DECIMAL(38, 0) AS out
        FROM lake.transactions_at('infinity') AS t
        WHERE t.status = 'posted' AND t.posted_at IS NOT NULL AND t.currency = lower(asked_currency)
        GROUP BY t.stripe_account, t.account_id, lake.utc_day(t.posted_at)
    )
    GROUP BY stripe_account, account_id
),
read AS NOT MATERIALIZED (
    SELECT w.stripe_account, w.account_id, lake.utc_day(max(w.last_attempted_at)) AS read_on
    FROM lake.watermarks AS w
    WHERE w.feature = 'transaction' AND w.status = 'succeeded' AND w.refused_at IS NULL
    GROUP BY w.stripe_account, w.account_id
),
-- Each day with what left on it, and none: from the first transaction, or 90 days ago, until they were last read.
calendar AS NOT MATERIALIZED (
    SELECT h.stripe_account, h.account_id, h.days, p.out_on, unnest(generate_series(
        greatest(p.first_day, h.today - 90), least(r.read_on, h.today) - 1, INTERVAL 1 DAY
    ))::DATE AS day
    FROM held AS h
    JOIN posted AS p USING (stripe_account, account_id)
    JOIN read AS r USING (stripe_account, account_id)
    WHERE h.days IS NOT NULL
),
stretches AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        sum(coalesce(out_on[day], 0)) OVER onwards AS out,
        count(*) OVER onwards = days AS is_whole
    FROM calendar
    WINDOW onwards AS (
        PARTITION BY stripe_account, account_id ORDER BY day
        RANGE BETWEEN CURRENT ROW AND to_days(days - 1) FOLLOWING
    )
),
usual AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        count(*) AS observed,
        CASE WHEN count(*) >= 14 THEN quantile_disc(out, 0.5) END::DECIMAL(38, 0) AS usually_out,
        CASE WHEN count(*) >= 14 THEN max(out) END::DECIMAL(38, 0) AS most_out
    FROM stretches
    WHERE is_whole
    GROUP BY stripe_account, account_id
),
low AS NOT MATERIALIZED (
    SELECT
        h.stripe_account,
        h.account_id,
        min(d.balance) FILTER (isodow(d.day) = isodow(h.today)) AS lowest_on_weekday,
        count(*) FILTER (isodow(d.day) = isodow(h.today)) AS weekdays_observed,
        min(d.balance) FILTER (day(d.day) = least(day(h.today), day(last_day(d.day)))) AS lowest_on_day_of_month,
        count(*) FILTER (day(d.day) = least(day(h.today), day(last_day(d.day)))) AS months_observed
    FROM held AS h
    JOIN lake.backcast_at('infinity', lake.utc_day(clock) - 365) AS d
        ON h.stripe_account = d.stripe_account AND h.account_id = d.account_id AND h.code = d.currency
    WHERE d.day BETWEEN h.today - 365 AND h.today - 1
    GROUP BY h.stripe_account, h.account_id
),
due AS NOT MATERIALIZED (
    SELECT
        h.stripe_account,
        h.account_id,
        count(*) AS debits_due,
        sum(-p.typical::HUGEINT)::DECIMAL(38, 0) AS typical_due,
        min(p.next_expected_on) AS next_due_on
    FROM held AS h
    JOIN recurring_transactions AS p
        ON h.stripe_account = p.stripe_account AND h.account_id = p.account_id AND h.code = p.currency
    WHERE NOT p.is_income AND p.next_expected_on BETWEEN lake.utc_day(h.as_of) AND lake.utc_day(h.until)
    GROUP BY h.stripe_account, h.account_id
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    a.institution_name,
    a.status,
    h.code AS currency,
    h.debit AS amount,
    h.available,
    h.current,
    h.as_of,
    h.hours_old,
    (h.available - h.debit)::DECIMAL(38, 0) AS left_available,
    h.last_refresh_status,
    h.next_refresh_available_at,
    h.days AS days_until_refresh,
    u.usually_out,
    u.most_out,
    coalesce(u.observed, 0) AS stretches_observed,
    l.lowest_on_weekday,
    coalesce(l.weekdays_observed, 0) AS weekdays_observed,
    l.lowest_on_day_of_month,
    coalesce(l.months_observed, 0) AS months_observed,
    CASE WHEN r.read_on IS NOT NULL AND h.until IS NOT NULL THEN coalesce(d.debits_due, 0) END AS debits_due,
    CASE WHEN r.read_on IS NOT NULL AND h.until IS NOT NULL THEN coalesce(d.typical_due, 0) END AS typical_due,
    d.next_due_on
FROM held AS h
JOIN accounts AS a USING (stripe_account, account_id)
LEFT JOIN usual AS u USING (stripe_account, account_id)
LEFT JOIN low AS l USING (stripe_account, account_id)
LEFT JOIN due AS d USING (stripe_account, account_id)
LEFT JOIN read AS r USING (stripe_account, account_id);

CREATE MACRO debit_risk(asked_amount, asked_currency) AS TABLE FROM lake.debit_risk_at(asked_amount, asked_currency, now());

COMMENT ON MACRO TABLE lake.debit_risk_at IS 'As debit_risk, as if it were the time `clock` now.';
COMMENT ON MACRO TABLE debit_risk IS
'One row per account with a balance in the currency asked for: is a debit of so many minor units safe now? `available`, `hours_old` and what would be left; `usually_out` and `most_out`, what left in so many days as there are until the next refresh (median and most of `stretches_observed` in the last 90 days); the lowest balance on this day of the week and of the month in the last year; recurring debits due until then. Facts, no score; null where they are not known.';
