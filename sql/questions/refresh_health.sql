-- Do refreshes work: one row per feature, institution and status of the last attempt.
CREATE VIEW refresh_health AS
SELECT
    r.feature,
    a.institution_name,
    r.status,
    count(*) AS accounts,
    (count(*) / sum(count(*)) OVER (PARTITION BY r.feature, a.institution_name))::DECIMAL(9, 4) AS share,
    min(r.last_attempted_at) AS oldest_attempt,
    max(r.last_attempted_at) AS newest_attempt
FROM refreshes AS r
JOIN accounts AS a USING (account_id)
WHERE a.status <> 'disconnected'
GROUP BY r.feature, a.institution_name, r.status;

COMMENT ON VIEW refresh_health IS 'Outcome of the last attempt to refresh, per feature and institution; disconnected accounts left out.';
COMMENT ON COLUMN refresh_health.feature IS 'balance, ownership or transaction.';
COMMENT ON COLUMN refresh_health.institution_name IS 'Who holds the accounts.';
COMMENT ON COLUMN refresh_health.status IS 'Outcome of the last attempt.';
COMMENT ON COLUMN refresh_health.accounts IS 'Accounts whose last attempt ended so.';
COMMENT ON COLUMN refresh_health.share IS 'Of all accounts with this feature at this institution, between 0 and 1.';
COMMENT ON COLUMN refresh_health.oldest_attempt IS 'The oldest of these attempts.';
COMMENT ON COLUMN refresh_health.newest_attempt IS 'The newest of these attempts.';
