-- Do refreshes work, where do they fail, and how long ago did they last succeed.
-- Grain: one row per Stripe account, feature, institution and outcome of the last attempt, over all accounts that are listed
--   and not disconnected.
-- Units: shares between 0 and 1; hours, rounded down.
-- Example: SELECT DISTINCT feature, institution_name, share_failed FROM refresh_health ORDER BY share_failed DESC;
CREATE VIEW refresh_health AS
WITH successes AS (
    SELECT stripe_account, account_id, feature, max(last_attempted_at) AS last_success_at
    FROM lake.refreshes
    WHERE status = 'succeeded'
    GROUP BY ALL
)
SELECT
    stripe_account,
    r.feature,
    a.institution_name,
    r.status,
    count(*) AS accounts,
    (count(*) / sum(count(*)) OVER place)::DECIMAL(9, 4) AS share,
    (sum(count(*) FILTER (r.status = 'failed')) OVER place / sum(count(*)) OVER place)::DECIMAL(9, 4) AS share_failed,
    min(r.last_attempted_at) AS oldest_attempt,
    max(r.last_attempted_at) AS newest_attempt,
    max(s.last_success_at) AS last_success_at,
    date_sub('hour', max(s.last_success_at), now()) AS hours_since_success,
    count(*) - count(s.last_success_at) AS never_succeeded
FROM refreshes AS r
JOIN accounts AS a USING (stripe_account, account_id)
LEFT JOIN successes AS s USING (stripe_account, account_id, feature)
WHERE a.status IS DISTINCT FROM 'disconnected' AND a.absent_since IS NULL
GROUP BY stripe_account, r.feature, a.institution_name, r.status
WINDOW place AS (PARTITION BY stripe_account, r.feature, a.institution_name);

COMMENT ON VIEW refresh_health IS 'One row per feature, institution and outcome of the last attempt to refresh; disconnected accounts left out.';
COMMENT ON COLUMN refresh_health.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN refresh_health.feature IS '`balance`, `ownership` or `transaction`.';
COMMENT ON COLUMN refresh_health.institution_name IS 'Who holds the accounts.';
COMMENT ON COLUMN refresh_health.status IS 'Outcome of the last attempt: `succeeded`, `failed`, `pending`, …';
COMMENT ON COLUMN refresh_health.accounts IS 'Accounts whose last attempt ended so.';
COMMENT ON COLUMN refresh_health.share IS 'These accounts, of all with this feature at this institution; between 0 and 1.';
COMMENT ON COLUMN refresh_health.share_failed IS 'Accounts whose last attempt failed, of all with this feature at this institution; the same on each of their rows.';
COMMENT ON COLUMN refresh_health.oldest_attempt IS 'The oldest of these last attempts (UTC).';
COMMENT ON COLUMN refresh_health.newest_attempt IS 'The newest of these last attempts (UTC).';
COMMENT ON COLUMN refresh_health.last_success_at IS 'The newest attempt that succeeded for any of these accounts (UTC); null = none is known.';
COMMENT ON COLUMN refresh_health.hours_since_success IS 'Whole hours since then.';
COMMENT ON COLUMN refresh_health.never_succeeded IS 'Of these accounts, those for which no success is known.';
