-- One row per institution: how many accounts, in what state, and how its balance refreshes do.
CREATE VIEW institutions AS
SELECT
    a.institution_name,
    count(*) AS accounts,
    count(*) FILTER (a.status = 'active') AS active,
    count(*) FILTER (a.status = 'inactive') AS inactive,
    count(*) FILTER (a.status = 'disconnected') AS disconnected,
    count(r.account_id) AS with_balance_refresh,
    count(*) FILTER (r.status = 'failed') AS balance_refresh_failed,
    max(a.balance_as_of) AS newest_balance
FROM accounts AS a
LEFT JOIN refreshes AS r ON r.account_id = a.account_id AND r.feature = 'balance'
GROUP BY ALL;

COMMENT ON VIEW institutions IS 'Accounts and their state per institution.';
COMMENT ON COLUMN institutions.institution_name IS 'Who holds the accounts.';
COMMENT ON COLUMN institutions.accounts IS 'Accounts ever linked.';
COMMENT ON COLUMN institutions.active IS 'Accounts that are active.';
COMMENT ON COLUMN institutions.inactive IS 'Accounts that Stripe cannot read.';
COMMENT ON COLUMN institutions.disconnected IS 'Accounts that were disconnected.';
COMMENT ON COLUMN institutions.with_balance_refresh IS 'Accounts with a balance refresh, whatever its outcome.';
COMMENT ON COLUMN institutions.balance_refresh_failed IS 'Accounts whose last balance refresh failed.';
COMMENT ON COLUMN institutions.newest_balance IS 'The newest balance known.';
