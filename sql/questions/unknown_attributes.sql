-- Which attributes does Stripe send that this version of fincon does not know: of what, since when, and on how many.
-- Grain: one row per Stripe account, table and attribute. No value is shown.
-- Units: counts of objects; times in UTC.
-- Example: FROM unknown_attributes ORDER BY objects DESC;
CREATE VIEW unknown_attributes AS
WITH RECURSIVE carriers AS (
    SELECT 'sessions' AS table_name, session_id AS object_id, stripe_account, observed_at, extra FROM lake.sessions
    UNION ALL SELECT 'accounts', account_id, stripe_account, observed_at, extra FROM lake.accounts
    UNION ALL SELECT 'transactions', transaction_id, stripe_account, observed_at, extra FROM lake.transactions
    UNION ALL SELECT 'owners', account_id || owner_id, stripe_account, observed_at, extra FROM lake.owners
    UNION ALL SELECT 'authorizations', authorization_id, stripe_account, observed_at, extra FROM lake.authorizations
),
-- An attribute is named by its place. Below those that fincon knows it goes on to the one that it does not.
places AS (
    SELECT table_name, object_id, stripe_account, observed_at, '' AS within, '' AS attribute, extra AS value
    FROM carriers
    WHERE extra IS NOT NULL
    UNION ALL
    SELECT
        table_name, object_id, stripe_account, observed_at, attribute AS within,
        concat_ws('.', nullif(attribute, ''), CASE WHEN regexp_full_match(key, '\d+') THEN '[]' ELSE key END) AS attribute,
        json_extract(value, '/' || replace(replace(key, '~', '~0'), '/', '~1')) AS value
    FROM (
        SELECT *, unnest(json_keys(value)) AS key
        FROM places
        WHERE json_type(value) = 'OBJECT'
            AND (attribute = '' OR attribute IN (
                'account_holder', 'account_numbers', 'account_numbers.[]', 'accounts', 'balance', 'balance.cash', 'balance.credit',
                'balance_refresh', 'filters', 'limits', 'manual_entry', 'ownership_refresh', 'status_details', 'status_details.active',
                'status_details.inactive', 'status_transitions', 'transaction_refresh'
            ))
    )
)
SELECT
    stripe_account,
    table_name,
    attribute,
    count(DISTINCT object_id) AS objects,
    min(observed_at) AS first_seen,
    max(observed_at) AS last_seen,
    max_by(lower(json_type(value)), observed_at) AS example_type
FROM places
WHERE attribute <> '' AND NOT (json_type(value) = 'OBJECT' AND attribute IN (SELECT within FROM places))
GROUP BY ALL;

COMMENT ON VIEW unknown_attributes IS 'One row per Stripe account, table and attribute that Stripe sends and this version of fincon does not know: it is kept in `extra`.';
COMMENT ON COLUMN unknown_attributes.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN unknown_attributes.table_name IS 'Of what: the table that has it in `extra`.';
COMMENT ON COLUMN unknown_attributes.attribute IS 'Its name, with those that it stands in before it; `[]` = in an item of a list.';
COMMENT ON COLUMN unknown_attributes.objects IS 'On how many different objects it was ever seen.';
COMMENT ON COLUMN unknown_attributes.first_seen IS 'Since when (UTC).';
COMMENT ON COLUMN unknown_attributes.last_seen IS 'When a version with it was last new (UTC).';
COMMENT ON COLUMN unknown_attributes.example_type IS 'The JSON type of its newest value, never the value: `varchar`, `object`, `null`, … as DuckDB names them.';
