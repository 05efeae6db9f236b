-- Which attribute of which account changed, from what to what, and when.
-- Grain: one row per account, attribute and change; all columns of `accounts` but those of its balance.
-- Units: values as text; times in UTC.
-- Example: SELECT observed_at, account_id, was, now_is FROM account_changes WHERE attribute = 'status' ORDER BY observed_at DESC;
CREATE VIEW account_changes AS
WITH attributes AS (
    SELECT
        stripe_account,
        account_id,
        observed_at,
        run_id,
        COLUMNS(* EXCLUDE (stripe_account, account_id, account_holder_id, observed_at, run_id, balance_type, balance_as_of))::VARCHAR
    FROM lake.accounts
    SEMI JOIN (
        SELECT stripe_account, account_id FROM lake.accounts GROUP BY ALL HAVING count(*) > 1
    ) AS changed USING (stripe_account, account_id)
),
cells AS (
    FROM attributes
    UNPIVOT INCLUDE NULLS (now_is FOR attribute IN (COLUMNS(* EXCLUDE (stripe_account, account_id, observed_at, run_id))))
),
steps AS (
    SELECT
        *,
        lag(now_is) OVER versions AS was,
        row_number() OVER versions AS version
    FROM cells
    WINDOW versions AS (PARTITION BY stripe_account, account_id, attribute ORDER BY observed_at)
)
SELECT stripe_account, account_id, attribute, was, now_is, observed_at, run_id
FROM steps
WHERE version > 1 AND was IS DISTINCT FROM now_is;

COMMENT ON VIEW account_changes IS 'One row per change of an account''s attribute (its balance aside): from what, to what, first seen when.';
COMMENT ON COLUMN account_changes.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN account_changes.account_id IS 'The account.';
COMMENT ON COLUMN account_changes.attribute IS 'The column of `accounts` that changed.';
COMMENT ON COLUMN account_changes.was IS 'Its value before, as text.';
COMMENT ON COLUMN account_changes.now_is IS 'Its value since, as text.';
COMMENT ON COLUMN account_changes.observed_at IS 'When the new value was first seen (UTC).';
COMMENT ON COLUMN account_changes.run_id IS 'The run that saw it.';
