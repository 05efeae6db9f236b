-- When did refreshes at an institution fail more than is usual there, whom did it hit, and until when.
-- Grain: one row per institution, feature and stretch of bad days that follow each other (days without an attempt do not end it). A day (UTC)
--   is bad if three accounts or more failed on it, and the share of failed attempts is twice the usual or more, and a quarter above it. Usual is
--   the median of that share by day over the 28 days before, of those that had attempts; where there are fewer than five, nothing is told.
--   An attempt counts if a sync saw it as the last: of two between two syncs one is known.
-- Units: shares between 0 and 1; times in UTC.
-- Example: SELECT institution_name, began_at, accounts, holders FROM institution_incidents WHERE ended_on IS NULL ORDER BY accounts DESC;
CREATE VIEW institution_incidents AS
WITH attempts AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        a.institution_name,
        r.feature,
        account_id,
        any_value(a.account_holder_id) AS account_holder_id,
        r.last_attempted_at,
        lake.utc_day(r.last_attempted_at) AS day,
        max_by(r.status, r.observed_at) = 'failed' AS is_failed
    FROM lake.refreshes AS r
    JOIN accounts AS a USING (stripe_account, account_id)
    WHERE r.status IN ('succeeded', 'failed') AND r.last_attempted_at IS NOT NULL AND a.institution_name IS NOT NULL
    GROUP BY stripe_account, a.institution_name, r.feature, account_id, r.last_attempted_at
),
by_day AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        institution_name,
        feature,
        day,
        count(DISTINCT account_id) FILTER (is_failed) AS accounts_failed,
        -- As whole numbers, for a share that was rounded is not exactly twice another; the quotient puts them in order.
        {
            'quotient': 1000000000000000000::HUGEINT * count(*) FILTER (is_failed) // count(*),
            'failed': count(*) FILTER (is_failed),
            'attempts': count(*)
        } AS share
    FROM attempts
    GROUP BY stripe_account, institution_name, feature, day
),
compared AS NOT MATERIALIZED (
    SELECT
        *,
        CASE WHEN count(*) OVER before >= 5 THEN quantile_disc(share, 0.5) OVER before END AS usual
    FROM by_day
    WINDOW before AS (
        PARTITION BY stripe_account, institution_name, feature ORDER BY day
        RANGE BETWEEN INTERVAL 28 DAY PRECEDING AND INTERVAL 1 DAY PRECEDING
    )
),
judged AS NOT MATERIALIZED (
    SELECT
        *,
        coalesce(
            accounts_failed >= 3
            AND share.failed * usual.attempts >= 2 * usual.failed * share.attempts
            AND 4 * share.failed * usual.attempts >= (4 * usual.failed + usual.attempts) * share.attempts,
            false
        ) AS is_bad
    FROM compared
),
stretches AS NOT MATERIALIZED (
    SELECT
        *,
        sum((NOT is_bad)::INTEGER) OVER by_time AS good_days_so_far,
        min(day) FILTER (NOT is_bad) OVER (
            PARTITION BY stripe_account, institution_name, feature ORDER BY day
            ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        ) AS ended_on
    FROM judged
    WINDOW by_time AS (PARTITION BY stripe_account, institution_name, feature ORDER BY day)
),
incidents AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        institution_name,
        feature,
        min(day) AS first_day,
        max(day) AS last_day,
        any_value(ended_on) AS ended_on,
        min_by(usual, day) AS usual
    FROM stretches
    WHERE is_bad
    GROUP BY stripe_account, institution_name, feature, good_days_so_far
)
SELECT
    stripe_account,
    institution_name,
    feature,
    min(t.last_attempted_at) FILTER (t.is_failed) AS began_at,
    max(t.last_attempted_at) FILTER (t.is_failed) AS last_failed_at,
    i.ended_on,
    count(*) AS attempts,
    count(*) FILTER (t.is_failed) AS failures,
    count(DISTINCT t.account_id) FILTER (t.is_failed) AS accounts,
    count(DISTINCT t.account_holder_id) FILTER (t.is_failed) AS holders,
    (lake.rounded_quotient(10000 * failures, attempts)::DECIMAL(9, 0) * 0.0001::DECIMAL(5, 4))::DECIMAL(9, 4) AS share_failed,
    (lake.rounded_quotient(10000 * i.usual.failed, i.usual.attempts)::DECIMAL(9, 0) * 0.0001::DECIMAL(5, 4))::DECIMAL(9, 4) AS usual_share
FROM incidents AS i
JOIN attempts AS t USING (stripe_account, institution_name, feature)
WHERE t.day BETWEEN i.first_day AND i.last_day
GROUP BY stripe_account, institution_name, feature, i.first_day, i.ended_on, i.usual;

COMMENT ON VIEW institution_incidents IS 'One row per institution, feature and time in which refreshes failed more than is usual there: since when, until when, how many accounts and holders.';
COMMENT ON COLUMN institution_incidents.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN institution_incidents.institution_name IS 'The institution.';
COMMENT ON COLUMN institution_incidents.feature IS '`balance`, `ownership` or `transaction`.';
COMMENT ON COLUMN institution_incidents.began_at IS 'When the first attempt began that failed in it (UTC).';
COMMENT ON COLUMN institution_incidents.last_failed_at IS 'When the last one did (UTC).';
COMMENT ON COLUMN institution_incidents.ended_on IS 'The first day with attempts that was not bad (UTC); null = none was seen yet.';
COMMENT ON COLUMN institution_incidents.attempts IS 'Attempts that were seen, from its first to its last day.';
COMMENT ON COLUMN institution_incidents.failures IS 'Of these, failed.';
COMMENT ON COLUMN institution_incidents.accounts IS 'Accounts of which one failed.';
COMMENT ON COLUMN institution_incidents.holders IS 'Holders of these; accounts without one aside.';
COMMENT ON COLUMN institution_incidents.share_failed IS '`failures` as a share of `attempts`.';
COMMENT ON COLUMN institution_incidents.usual_share IS 'The median share by day over the 28 days before.';
