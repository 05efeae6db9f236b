-- Where the accounts are, in what state, and how their balance refreshes do.
-- Grain: one row per Stripe account and institution.
-- Units: counts of accounts.
-- Example: SELECT institution_name, accounts, active FROM institutions ORDER BY accounts DESC LIMIT 10;
CREATE VIEW institutions AS
SELECT
    stripe_account,
    a.institution_name,
    count(*) AS accounts,
    count(*) FILTER (a.status = 'active' AND a.absent_since IS NULL) AS active,
    count(*) FILTER (a.status = 'inactive' AND a.absent_since IS NULL) AS inactive,
    count(*) FILTER (a.status = 'disconnected') AS disconnected,
    count(*) FILTER (a.status IS DISTINCT FROM 'disconnected' AND a.absent_since IS NOT NULL) AS absent,
    accounts - active - inactive - disconnected - absent AS other,
    count(r.feature) AS with_balance_refresh,
    count(*) FILTER (r.status = 'failed') AS balance_refresh_failed,
    max(a.balance_as_of) AS newest_balance
FROM accounts AS a
LEFT JOIN (FROM refreshes WHERE feature = 'balance') AS r USING (stripe_account, account_id)
GROUP BY stripe_account, a.institution_name;

COMMENT ON VIEW institutions IS 'One row per Stripe account and institution: its accounts and their state.';
COMMENT ON COLUMN institutions.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN institutions.institution_name IS 'Who holds the accounts.';
COMMENT ON COLUMN institutions.accounts IS 'Accounts ever linked.';
COMMENT ON COLUMN institutions.active IS 'Accounts that are active.';
COMMENT ON COLUMN institutions.inactive IS 'Accounts that Stripe cannot read.';
COMMENT ON COLUMN institutions.disconnected IS 'Accounts that were disconnected.';
COMMENT ON COLUMN institutions.absent IS 'Accounts that Stripe lists no more, and that were not seen disconnected.';
COMMENT ON COLUMN institutions.other IS 'Accounts in any other state.';
COMMENT ON COLUMN institutions.with_balance_refresh IS 'Accounts with a balance refresh, whatever its outcome.';
COMMENT ON COLUMN institutions.balance_refresh_failed IS 'Accounts whose last balance refresh failed.';
COMMENT ON COLUMN institutions.newest_balance IS 'When the newest balance known was computed (UTC).';
