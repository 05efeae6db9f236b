-- How much usually stands in an account: average daily balance, lowest, days below zero, over 30, 60 and 90 days.
-- Grain: one row per account, currency and window; `underwriting_holder_balances` per holder over accounts of the category `cash`, on days
--   on which all of them are known. A window is the so many days before the day asked for (today; that of ts). A day counts if its balance
--   is known or reckoned, as `balance_backcast` has it; `coverage` says for how many that is so, and nothing is carried forward.
--   `underwriting_balances(threshold)` and `underwriting_balances_as_of(ts, threshold)` count days below a threshold as well. Each figure is
--   defined in docs/underwriting.md.
-- Units: minor units of the currency, the average rounded to such; coverage between 0 and 1. The threshold is in minor units.
-- Example: SELECT average_balance, lowest, days_below_zero, coverage FROM underwriting_balances WHERE account_id = 'fca_…' AND window_days = 90;
-- Of accounts or of holders: one way to count, bound once for each.
CREATE MACRO lake.balance_windows_at(ts, threshold, by_holder) AS TABLE
WITH days AS NOT MATERIALIZED (
    -- Of the parts of this union the one is not planned that is not asked for. Days of one balance are one row, of an account as it is.
    SELECT
        s.* EXCLUDE (account_id),
        account_id AS subject,
        a.account_holder_id,
        1 AS accounts,
        basis = 'backcast' AS is_backcast,
        true AS is_known
    FROM lake.backcast_spans_at(ts, lake.utc_day(least(lake.utc(ts), now())) - 90) AS s
    LEFT JOIN accounts AS a USING (stripe_account, account_id)
    WHERE NOT by_holder
    UNION ALL BY NAME
    SELECT
        stripe_account,
        account_holder_id,
        b.currency,
        b.day AS first_day,
        b.day AS last_day,
        sum(b.balance)::DECIMAL(38, 0) AS balance,
        bool_or(b.basis = 'backcast') AS is_backcast,
        any_value(k.accounts) AS accounts,
        count(*) = any_value(k.accounts) AS is_known
    FROM lake.backcast_at(ts, lake.utc_day(least(lake.utc(ts), now())) - 90) AS b
    JOIN accounts AS a USING (stripe_account, account_id, account_holder_id)
    JOIN (
        SELECT k.stripe_account, a.account_holder_id, k.currency, count(DISTINCT k.account_id) AS accounts
        FROM lake.known_balances_at(ts) AS k
        JOIN accounts AS a USING (stripe_account, account_id)
        WHERE a.category = 'cash'
        GROUP BY k.stripe_account, a.account_holder_id, k.currency
    ) AS k USING (stripe_account, account_holder_id, currency)
    WHERE by_holder AND a.category = 'cash'
    GROUP BY stripe_account, account_holder_id, b.currency, b.day
),
-- Each window is whole bands of days: they are counted once, and added up. What lies in none keeps the account's row.
ago AS NOT MATERIALIZED (
    SELECT
        *,
        lake.utc_day(least(lake.utc(ts), now())) AS today,
        greatest(today - last_day, 1) AS newest,
        least(today - first_day, 90) AS oldest
    FROM days
),
banded AS NOT MATERIALIZED (
    SELECT *, unnest(
        CASE WHEN is_known AND newest <= oldest THEN generate_series((newest + 29) // 30, (oldest + 29) // 30) ELSE [NULL] END
    ) * 30 AS within_days
    FROM ago
),
bands AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        subject,
        account_holder_id,
        currency,
        within_days,
        any_value(accounts) AS accounts,
        sum(days) AS days,
        sum(days) FILTER (is_backcast) AS backcast,
        sum(balance::HUGEINT * days)::HUGEINT AS total,
        min(balance) AS lowest_balance,
        min_by(day, (balance, day)) AS lowest_day,
        coalesce(sum(days) FILTER (balance < 0), 0) AS below_zero,
        CASE WHEN threshold IS NOT NULL THEN coalesce(sum(days) FILTER (balance < lake.whole_units(threshold)), 0) END AS below_threshold
    FROM (
        SELECT
            *,
            least(oldest, within_days) - greatest(newest, within_days - 29) + 1 AS days,
            today - least(oldest, within_days)::INTEGER AS day
        FROM banded
    )
    GROUP BY stripe_account, subject, account_holder_id, currency, within_days
)
SELECT
    stripe_account,
    subject AS account_id,
    account_holder_id,
    currency,
    window_days::BIGINT AS window_days,
    any_value(accounts) AS accounts,
    coalesce(sum(days) FILTER (within_days <= window_days), 0)::BIGINT AS days_observed,
    coalesce(sum(backcast) FILTER (within_days <= window_days), 0)::BIGINT AS days_backcast,
    (lake.rounded_quotient(10000 * days_observed, window_days)::DECIMAL(9, 0) * 0.0001::DECIMAL(5, 4))::DECIMAL(9, 4) AS coverage,
    CASE WHEN days_observed > 0 THEN lake.rounded_quotient(
        sum(total) FILTER (within_days <= window_days)::HUGEINT, days_observed
    ) END::DECIMAL(38, 0) AS average_balance,
    major_units(average_balance, currency) AS average_balance_amount,
    min(lowest_balance) FILTER (within_days <= window_days) AS lowest,
    major_units(lowest, currency) AS lowest_amount,
    min_by(lowest_day, (lowest_balance, lowest_day)) FILTER (within_days <= window_days) AS lowest_on,
    (sum(below_zero) FILTER (within_days <= window_days))::BIGINT AS days_below_zero,
    (sum(below_threshold) FILTER (within_days <= window_days))::BIGINT AS days_below_threshold
FROM bands
CROSS JOIN (VALUES (30), (60), (90)) AS w (window_days)
GROUP BY stripe_account, subject, account_holder_id, currency, window_days;

CREATE MACRO underwriting_balances_as_of(ts, threshold) AS TABLE
SELECT * EXCLUDE (accounts) FROM lake.balance_windows_at(ts, threshold, false);

CREATE MACRO underwriting_holder_balances_as_of(ts, threshold) AS TABLE
SELECT * EXCLUDE (account_id) FROM lake.balance_windows_at(ts, threshold, true);

CREATE MACRO underwriting_balances(threshold) AS TABLE FROM underwriting_balances_as_of('infinity', threshold);
CREATE MACRO underwriting_holder_balances(threshold) AS TABLE FROM underwriting_holder_balances_as_of('infinity', threshold);
CREATE VIEW underwriting_balances AS FROM underwriting_balances_as_of('infinity', NULL);
CREATE VIEW underwriting_holder_balances AS FROM underwriting_holder_balances_as_of('infinity', NULL);

COMMENT ON MACRO TABLE lake.balance_windows_at IS 'The figures of underwriting_balances, or of underwriting_holder_balances.';
COMMENT ON MACRO TABLE underwriting_balances_as_of IS 'As the view underwriting_balances, by what was known at ts, with days below a threshold; a date or a time without a zone is UTC.';
COMMENT ON MACRO TABLE underwriting_balances IS 'As the view of the same name, with days below a threshold in minor units.';
COMMENT ON VIEW underwriting_balances IS 'One row per account, currency and window of 30, 60, 90 days: average daily balance, lowest, days below zero, and on how many days that rests.';
COMMENT ON COLUMN underwriting_balances.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN underwriting_balances.account_id IS 'The account.';
COMMENT ON COLUMN underwriting_balances.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN underwriting_balances.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN underwriting_balances.window_days IS 'Length of the window: 30, 60 or 90 days before the day asked for.';
COMMENT ON COLUMN underwriting_balances.days_observed IS 'Days of the window whose balance is known or reckoned.';
COMMENT ON COLUMN underwriting_balances.days_backcast IS 'Of these, the reckoned ones.';
COMMENT ON COLUMN underwriting_balances.coverage IS '`days_observed` as a share of the window.';
COMMENT ON COLUMN underwriting_balances.average_balance IS 'Mean of the balances of the days observed, rounded; null = none is.';
COMMENT ON COLUMN underwriting_balances.average_balance_amount IS '`average_balance` in major units.';
COMMENT ON COLUMN underwriting_balances.lowest IS 'The lowest of them.';
COMMENT ON COLUMN underwriting_balances.lowest_amount IS '`lowest` in major units.';
COMMENT ON COLUMN underwriting_balances.lowest_on IS 'The first day on which it was.';
COMMENT ON COLUMN underwriting_balances.days_below_zero IS 'Days observed on which it was negative; null = none is observed.';
COMMENT ON COLUMN underwriting_balances.days_below_threshold IS 'Days observed on which it was below the threshold asked for; null = none was asked for.';
COMMENT ON MACRO TABLE underwriting_holder_balances_as_of IS 'As the view underwriting_holder_balances, by what was known at ts, with days below a threshold; a date or a time without a zone is UTC.';
COMMENT ON MACRO TABLE underwriting_holder_balances IS 'As the view of the same name, with days below a threshold in minor units.';
COMMENT ON VIEW underwriting_holder_balances IS 'One row per holder, currency and window of 30, 60, 90 days: average daily balance, lowest, days below zero, and on how many days that rests.';
COMMENT ON COLUMN underwriting_holder_balances.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN underwriting_holder_balances.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN underwriting_holder_balances.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN underwriting_holder_balances.window_days IS 'Length of the window: 30, 60 or 90 days before the day asked for.';
COMMENT ON COLUMN underwriting_holder_balances.accounts IS 'Cash accounts that are added up: the balance of each is known on each day observed.';
COMMENT ON COLUMN underwriting_holder_balances.days_observed IS 'Days of the window whose balance is known or reckoned.';
COMMENT ON COLUMN underwriting_holder_balances.days_backcast IS 'Of these, the reckoned ones.';
COMMENT ON COLUMN underwriting_holder_balances.coverage IS '`days_observed` as a share of the window.';
COMMENT ON COLUMN underwriting_holder_balances.average_balance IS 'Mean of the balances of the days observed, rounded; null = none is.';
COMMENT ON COLUMN underwriting_holder_balances.average_balance_amount IS '`average_balance` in major units.';
COMMENT ON COLUMN underwriting_holder_balances.lowest IS 'The lowest of them.';
COMMENT ON COLUMN underwriting_holder_balances.lowest_amount IS '`lowest` in major units.';
COMMENT ON COLUMN underwriting_holder_balances.lowest_on IS 'The first day on which it was.';
COMMENT ON COLUMN underwriting_holder_balances.days_below_zero IS 'Days observed on which it was negative; null = none is observed.';
COMMENT ON COLUMN underwriting_holder_balances.days_below_threshold IS 'Days observed on which it was below the threshold asked for; null = none was asked for.';
