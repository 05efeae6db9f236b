-- How long it takes from the notice that an account must be linked again until it is.
-- Grain: one row per account and time that it needed to be: from the first version that is inactive, or active with a notice to
--   relink, to the first after it that is neither. An account that needs it anew has another row.
-- Units: hours, rounded down; times in UTC, as syncs and events saw them.
-- Example: SELECT institution_name, quantile_disc(hours, 0.5) AS typical FROM relink_times WHERE outcome = 'relinked' GROUP BY ALL;
CREATE VIEW relink_times AS
WITH versions AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        account_holder_id,
        institution_name,
        observed_at,
        status_details.active.cause AS cause,
        absent_since IS NULL AND status = 'active' AS is_active,
        absent_since IS NULL
            AND (status = 'inactive' OR (status = 'active' AND status_details.active.action = 'relink_required'))
            IS NOT DISTINCT FROM true AS is_needed
    FROM lake.accounts
),
compared AS NOT MATERIALIZED (
    SELECT *, lag(is_needed) OVER (PARTITION BY stripe_account, account_id ORDER BY observed_at) AS was_needed
    FROM versions
),
turns AS NOT MATERIALIZED (
    SELECT
        *,
        lead(observed_at) OVER one AS ended_at,
        lead(is_active) OVER one AS ended_active
    FROM compared
    WHERE is_needed IS DISTINCT FROM was_needed
    WINDOW one AS (PARTITION BY stripe_account, account_id ORDER BY observed_at)
)
SELECT
    stripe_account,
    account_id,
    account_holder_id,
    institution_name,
    cause,
    observed_at AS noticed_at,
    ended_at,
    CASE WHEN ended_at IS NULL THEN 'open' WHEN ended_active THEN 'relinked' ELSE 'ended' END AS outcome,
    date_sub('hour', observed_at, ended_at) AS hours
FROM turns
WHERE is_needed;

COMMENT ON VIEW relink_times IS 'One row per account and time that it had to be linked again: noticed when, ended when, how.';
COMMENT ON COLUMN relink_times.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN relink_times.account_id IS 'The account.';
COMMENT ON COLUMN relink_times.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`).';
COMMENT ON COLUMN relink_times.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN relink_times.cause IS 'Why, as Stripe said in the notice; null = not said.';
COMMENT ON COLUMN relink_times.noticed_at IS 'When the need was first seen (UTC).';
COMMENT ON COLUMN relink_times.ended_at IS 'When it was first seen not to be there any more (UTC); null = it still is.';
COMMENT ON COLUMN relink_times.outcome IS '`relinked` = active without a notice; `ended` = disconnected, not listed, or in another state; `open` = not yet.';
COMMENT ON COLUMN relink_times.hours IS 'Whole hours from notice to end; null = it is open.';
