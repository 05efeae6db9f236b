-- Which attribute of which account changed from what to what, and when that was first seen.
CREATE VIEW account_changes AS
WITH attributes AS (
    SELECT
        account_id, observed_at, run_id,
        status, category, subcategory, display_name, institution_name, last4, ownership_id,
        account_holder_type, account_holder_customer_id, account_holder_account_id, account_holder_customer_account_id,
        permissions::VARCHAR AS permissions,
        subscriptions::VARCHAR AS subscriptions,
        supported_payment_method_types::VARCHAR AS supported_payment_method_types,
        account_numbers::VARCHAR AS account_numbers,
        status_details::VARCHAR AS status_details,
        balance_type,
        extra::VARCHAR AS extra
    FROM lake.accounts
    SEMI JOIN (SELECT account_id FROM lake.accounts GROUP BY ALL HAVING count(*) > 1) AS changed USING (account_id)
),
cells AS (
    FROM attributes
    UNPIVOT INCLUDE NULLS (now_is FOR attribute IN (COLUMNS(* EXCLUDE (account_id, observed_at, run_id))))
),
steps AS (
    SELECT
        *,
        lag(now_is) OVER versions AS was,
        row_number() OVER versions AS version
    FROM cells
    WINDOW versions AS (PARTITION BY account_id, attribute ORDER BY observed_at)
)
SELECT account_id, attribute, was, now_is, observed_at, run_id
FROM steps
WHERE version > 1 AND was IS DISTINCT FROM now_is;

COMMENT ON VIEW account_changes IS 'Every change of an account''s attributes but its balance: from what, to what, first seen when.';
COMMENT ON COLUMN account_changes.account_id IS 'The account.';
COMMENT ON COLUMN account_changes.attribute IS 'The column of accounts that changed.';
COMMENT ON COLUMN account_changes.was IS 'Its value before, as text.';
COMMENT ON COLUMN account_changes.now_is IS 'Its value since, as text.';
COMMENT ON COLUMN account_changes.observed_at IS 'When the new value was first seen.';
COMMENT ON COLUMN account_changes.run_id IS 'The run that saw it.';
