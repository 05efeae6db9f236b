-- Which features of which accounts can be refreshed at this moment.
CREATE VIEW refreshable_now AS
SELECT r.account_id, r.feature, a.institution_name, r.status AS last_status, r.last_attempted_at, r.next_refresh_available_at
FROM refreshes AS r
JOIN accounts AS a USING (account_id)
WHERE a.status = 'active' AND r.status <> 'pending' AND r.next_refresh_available_at <= now();

COMMENT ON VIEW refreshable_now IS 'Features of active accounts that can be refreshed at this moment.';
COMMENT ON COLUMN refreshable_now.account_id IS 'The account.';
COMMENT ON COLUMN refreshable_now.feature IS 'balance, ownership or transaction.';
COMMENT ON COLUMN refreshable_now.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN refreshable_now.last_status IS 'Outcome of the last attempt.';
COMMENT ON COLUMN refreshable_now.last_attempted_at IS 'When the last attempt began.';
COMMENT ON COLUMN refreshable_now.next_refresh_available_at IS 'Since when another is allowed.';
