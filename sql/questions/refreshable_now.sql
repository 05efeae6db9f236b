-- What can be refreshed at this moment.
-- Grain: one row per account and feature, over active accounts whose waiting time is over and that have no attempt under way.
-- Units: times in UTC.
-- Example: SELECT institution_name, count(*) AS accounts FROM refreshable_now WHERE feature = 'balance' GROUP BY ALL;
CREATE VIEW refreshable_now AS
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    r.feature,
    a.institution_name,
    r.status AS last_status,
    r.last_attempted_at,
    r.next_refresh_available_at
FROM refreshes AS r
JOIN accounts AS a USING (stripe_account, account_id)
WHERE a.status = 'active' AND a.absent_since IS NULL
  AND r.status IS DISTINCT FROM 'pending'
  AND r.next_refresh_available_at <= now();

COMMENT ON VIEW refreshable_now IS 'One row per account and feature that can be refreshed at this moment; active accounts alone.';
COMMENT ON COLUMN refreshable_now.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN refreshable_now.account_id IS 'The account.';
COMMENT ON COLUMN refreshable_now.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN refreshable_now.feature IS '`balance`, `ownership` or `transaction`.';
COMMENT ON COLUMN refreshable_now.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN refreshable_now.last_status IS 'Outcome of the last attempt.';
COMMENT ON COLUMN refreshable_now.last_attempted_at IS 'When the last attempt began (UTC).';
COMMENT ON COLUMN refreshable_now.next_refresh_available_at IS 'Since when another is allowed (UTC).';
