-- Whom to ask to link their account again, why, and until when.
-- Grain: one row per account that is inactive (it cannot be read any more), or active with a notice to relink.
-- Units: days, rounded down; times in UTC.
-- Example: SELECT account_holder_id, institution_name, works_until FROM relink_needed WHERE days_left < 14 ORDER BY works_until;
CREATE VIEW relink_needed AS
SELECT
    stripe_account,
    account_id,
    account_holder_type,
    account_holder_id,
    institution_name,
    display_name,
    last4,
    status,
    status_details.active.cause AS cause,
    status_details.active.expected_deactivation_date AS works_until,
    date_sub('day', now(), status_details.active.expected_deactivation_date) AS days_left
FROM accounts
WHERE absent_since IS NULL
  AND (status = 'inactive' OR (status = 'active' AND status_details.active.action = 'relink_required'));

COMMENT ON VIEW relink_needed IS 'One row per account that must be linked again: inactive, or active with a notice that it will end.';
COMMENT ON COLUMN relink_needed.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN relink_needed.account_id IS 'The account.';
COMMENT ON COLUMN relink_needed.account_holder_type IS '`customer`, `account`, …; null = no holder.';
COMMENT ON COLUMN relink_needed.account_holder_id IS 'Whom to ask (`cus_…` or `acct_…`).';
COMMENT ON COLUMN relink_needed.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN relink_needed.display_name IS 'The account''s name for people.';
COMMENT ON COLUMN relink_needed.last4 IS 'Last four digits of the account number.';
COMMENT ON COLUMN relink_needed.status IS '`inactive` = it cannot be read now; `active` = it still can.';
COMMENT ON COLUMN relink_needed.cause IS 'Why, as Stripe says: `access_expired`, `institution_requirement`, …; null = not said.';
COMMENT ON COLUMN relink_needed.works_until IS 'When an active account is expected to end (UTC); null = not said.';
COMMENT ON COLUMN relink_needed.days_left IS 'Whole days until then; negative = it is past.';
