-- Which attribute of which account changed, from what to what, and when.
-- Grain: one row per account, attribute and change; all columns of `accounts` but those of its balance. A list in another order
--   is no change. Neither is what another choice about personal data makes of the same value (`--pii`: plain, hashed, gone):
--   of two versions under different choices nothing is told about `display_name`, `last4` and `extra`, for a row with both
--   would undo the hash.
-- Units: values as text, lists sorted; times in UTC.
-- Example: SELECT observed_at, account_id, was, now_is FROM account_changes WHERE attribute = 'status' ORDER BY observed_at DESC;
CREATE VIEW account_changes AS
WITH choices AS NOT MATERIALIZED (
    SELECT run_id, coalesce(any_value(pii), 'keep') AS choice FROM lake.runs GROUP BY run_id
),
-- Most versions differ in nothing but the balance: accounts of which no other attribute ever changed are not unpivoted.
changed AS (
    SELECT stripe_account, account_id
    FROM (
        SELECT DISTINCT * EXCLUDE (observed_at, run_id, account_holder_id, balance_type, balance_as_of)
        FROM lake.accounts
    )
    GROUP BY stripe_account, account_id
    HAVING count(*) > 1
),
attributes AS (
    SELECT
        stripe_account,
        account_id,
        observed_at,
        run_id,
        coalesce(choice, 'keep') AS choice,
        COLUMNS(* EXCLUDE (
            stripe_account, account_id, account_holder_id, observed_at, run_id, choice, balance_type, balance_as_of
        ))::VARCHAR
    FROM (
        SELECT * REPLACE (
            list_sort(permissions) AS permissions,
            list_sort(subscriptions) AS subscriptions,
            list_sort(supported_payment_method_types) AS supported_payment_method_types,
            list_sort([
                {
                    'expected_expiry_date': number.expected_expiry_date,
                    'identifier_type': number.identifier_type,
                    'status': number.status,
                    'supported_networks': list_sort(number.supported_networks)
                }
                FOR number IN account_numbers
            ]) AS account_numbers
        )
        FROM lake.accounts
    )
    JOIN changed USING (stripe_account, account_id)
    LEFT JOIN choices USING (run_id)
),
cells AS (
    FROM attributes
    UNPIVOT INCLUDE NULLS (
        now_is FOR attribute IN (COLUMNS(* EXCLUDE (stripe_account, account_id, observed_at, run_id, choice)))
    )
),
steps AS (
    SELECT
        *,
        lag(now_is) OVER versions AS was,
        lag(choice) OVER versions AS choice_before,
        row_number() OVER versions AS version
    FROM cells
    WINDOW versions AS (PARTITION BY stripe_account, account_id, attribute ORDER BY observed_at)
)
SELECT stripe_account, account_id, a.account_holder_id, attribute, was, now_is, s.observed_at, s.run_id
FROM steps AS s
LEFT JOIN (SELECT stripe_account, account_id, account_holder_id FROM accounts) AS a USING (stripe_account, account_id)
WHERE version > 1
  AND was IS DISTINCT FROM now_is
  AND (
      attribute NOT IN ('display_name', 'last4', 'extra')
      OR (choice = choice_before AND starts_with(coalesce(was, now_is), 'pii_') = starts_with(coalesce(now_is, was), 'pii_'))
  );

COMMENT ON VIEW account_changes IS 'One row per change of an account''s attribute (its balance aside): from what, to what, first seen when.';
COMMENT ON COLUMN account_changes.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN account_changes.account_id IS 'The account.';
COMMENT ON COLUMN account_changes.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN account_changes.attribute IS 'The column of `accounts` that changed.';
COMMENT ON COLUMN account_changes.was IS 'Its value before, as text.';
COMMENT ON COLUMN account_changes.now_is IS 'Its value since, as text.';
COMMENT ON COLUMN account_changes.observed_at IS 'When the new value was first seen (UTC).';
COMMENT ON COLUMN account_changes.run_id IS 'The run that saw it.';
