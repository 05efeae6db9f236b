-- Which accounts are the same bank account, linked more than once.
-- Grain: one row per account that has a fresher double: the same Stripe account, holder, institution, category and `last4`, and
--   neither disconnected nor off the list. Where `last4` was dropped nothing can be said, and there is none.
-- Units: none; ids and texts as `accounts` has them.
-- Example: SELECT account_holder_id, institution_name, last4, account_id, counted_account_id FROM duplicate_accounts;
CREATE VIEW duplicate_accounts AS
SELECT DISTINCT
    stripe_account,
    account_holder_id,
    institution_name,
    category,
    last4,
    account_id,
    status,
    duplicate_of AS counted_account_id
FROM account_balances
WHERE duplicate_of IS NOT NULL;

COMMENT ON VIEW duplicate_accounts IS 'One row per account that is the same bank account as another, fresher one of the same holder.';
COMMENT ON COLUMN duplicate_accounts.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN duplicate_accounts.account_holder_id IS 'Whose they are (`cus_…` or `acct_…`).';
COMMENT ON COLUMN duplicate_accounts.institution_name IS 'Who holds them.';
COMMENT ON COLUMN duplicate_accounts.category IS 'Their category.';
COMMENT ON COLUMN duplicate_accounts.last4 IS 'Their last four digits; treated as `--pii` says.';
COMMENT ON COLUMN duplicate_accounts.account_id IS 'The double, which totals that count each once leave out.';
COMMENT ON COLUMN duplicate_accounts.status IS 'Its status.';
COMMENT ON COLUMN duplicate_accounts.counted_account_id IS 'The one that counts: active before inactive, then that with the newest balance.';
