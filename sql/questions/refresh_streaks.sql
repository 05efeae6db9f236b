-- Which refreshes fail again and again: how many in a row, and since when.
-- Grain: one row per account and feature whose last finished attempt failed; accounts that are listed and not disconnected. An
--   attempt counts if a sync saw it as the last: of two between two syncs one is known. A pending one counts as none yet.
-- Units: counts of attempts; hours, rounded down; times in UTC.
-- Example: SELECT account_holder_id, institution_name, failures, failing_since FROM refresh_streaks WHERE feature = 'balance' AND failures >= 3;
CREATE VIEW refresh_streaks AS
WITH attempts AS NOT MATERIALIZED (
    SELECT stripe_account, account_id, feature, last_attempted_at, max_by(status, observed_at) AS status
    FROM lake.refreshes
    WHERE status <> 'pending' AND last_attempted_at IS NOT NULL
    GROUP BY stripe_account, account_id, feature, last_attempted_at
),
compared AS NOT MATERIALIZED (
    SELECT
        *,
        max(last_attempted_at) FILTER (status <> 'failed') OVER one AS last_other_at,
        max(last_attempted_at) FILTER (status = 'succeeded') OVER one AS last_success_at
    FROM attempts
    WINDOW one AS (PARTITION BY stripe_account, account_id, feature)
)
SELECT
    stripe_account,
    account_id,
    any_value(a.account_holder_id) AS account_holder_id,
    any_value(a.institution_name) AS institution_name,
    c.feature,
    count(*) AS failures,
    min(c.last_attempted_at) AS failing_since,
    max(c.last_attempted_at) AS last_failed_at,
    any_value(c.last_success_at) AS last_success_at,
    date_sub('hour', min(c.last_attempted_at), now()) AS hours_failing
FROM compared AS c
SEMI JOIN refreshes AS r
    ON c.stripe_account = r.stripe_account AND c.account_id = r.account_id AND c.feature = r.feature
JOIN accounts AS a USING (stripe_account, account_id)
WHERE c.status = 'failed'
  AND (c.last_other_at IS NULL OR c.last_attempted_at > c.last_other_at)
  AND a.status IS DISTINCT FROM 'disconnected'
  AND a.absent_since IS NULL
GROUP BY stripe_account, account_id, c.feature;

COMMENT ON VIEW refresh_streaks IS 'One row per account and feature whose last finished refresh failed: how many in a row, and since when.';
COMMENT ON COLUMN refresh_streaks.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN refresh_streaks.account_id IS 'The account.';
COMMENT ON COLUMN refresh_streaks.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`).';
COMMENT ON COLUMN refresh_streaks.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN refresh_streaks.feature IS '`balance`, `ownership` or `transaction`.';
COMMENT ON COLUMN refresh_streaks.failures IS 'Failed attempts in a row, as far as syncs saw them.';
COMMENT ON COLUMN refresh_streaks.failing_since IS 'When the first of them began (UTC).';
COMMENT ON COLUMN refresh_streaks.last_failed_at IS 'When the last of them began (UTC).';
COMMENT ON COLUMN refresh_streaks.last_success_at IS 'The newest attempt known that succeeded (UTC); null = none is.';
COMMENT ON COLUMN refresh_streaks.hours_failing IS 'Whole hours since `failing_since`.';
