-- Which links will end, or have ended, by what Stripe says of their authorizations: whose, and which accounts hang on them.
-- Grain: one row per authorization that has ended or is told when it will, and account that is linked by it; one row where none is known.
-- Units: days, rounded down; times in UTC.
-- Example: SELECT account_holder_id, institution_name, ends_at, count(account_id) AS accounts FROM links_ending GROUP BY ALL ORDER BY ends_at;
CREATE VIEW links_ending AS
WITH links AS (
    SELECT
        *,
        coalesce(account_holder_customer_id, account_holder_account_id, account_holder_customer_account_id) AS account_holder_id
    FROM authorizations
    WHERE status <> 'active'
       OR status_details.active.expected_deactivation_date IS NOT NULL
       OR status_details.active.action = 'relink_required'
),
linked AS (
    SELECT
        stripe_account,
        account_id,
        institution_name,
        coalesce(account_holder_customer_id, account_holder_account_id, account_holder_customer_account_id) AS account_holder_id,
        -- Stripe tells the authorization in preview alone, as an id or as the object.
        coalesce(json_extract_string(extra, '$.authorization.id'), json_extract_string(extra, '$.authorization')) AS authorization_id
    FROM accounts
    WHERE status IS DISTINCT FROM 'disconnected' AND absent_since IS NULL
)
SELECT
    l.stripe_account,
    l.authorization_id,
    l.account_holder_type,
    l.account_holder_id,
    l.institution_name,
    l.status,
    coalesce(l.status_details.active.action, l.status_details.inactive.action) AS action,
    coalesce(l.status_details.active.cause, l.status_details.inactive.cause) AS cause,
    l.status_details.active.expected_deactivation_date AS ends_at,
    date_sub('day', now(), l.status_details.active.expected_deactivation_date) AS days_left,
    a.account_id,
    CASE
        WHEN a.authorization_id = l.authorization_id THEN 'authorization'
        WHEN a.account_id IS NOT NULL THEN 'holder and institution'
    END AS matched_by
FROM links AS l
LEFT JOIN linked AS a
    ON a.stripe_account = l.stripe_account
    AND CASE
        WHEN a.authorization_id LIKE 'fcauth\_%' ESCAPE '\' THEN a.authorization_id = l.authorization_id
        ELSE a.account_holder_id = l.account_holder_id AND a.institution_name = l.institution_name
    END;

COMMENT ON VIEW links_ending IS 'One row per authorization that will end or has ended, and account linked by it; one row where no account of it is known.';
COMMENT ON COLUMN links_ending.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN links_ending.authorization_id IS 'The authorization (`fcauth_…`).';
COMMENT ON COLUMN links_ending.account_holder_type IS '`customer`, `account`, …; null = not said.';
COMMENT ON COLUMN links_ending.account_holder_id IS 'Whom to ask (`cus_…` or `acct_…`); null = not said.';
COMMENT ON COLUMN links_ending.institution_name IS 'Who it is with.';
COMMENT ON COLUMN links_ending.status IS '`active` = it still works; `inactive` = it has ended.';
COMMENT ON COLUMN links_ending.action IS 'What to do: `relink_required`, `none`, …; null = not said.';
COMMENT ON COLUMN links_ending.cause IS 'Why, as Stripe says: `access_expired`, `institution_requirement`, …; null = not said.';
COMMENT ON COLUMN links_ending.ends_at IS 'When an active one is expected to end (UTC); null = not said.';
COMMENT ON COLUMN links_ending.days_left IS 'Whole days until then; negative = it is past.';
COMMENT ON COLUMN links_ending.account_id IS 'An account that will stop with it; null = none is known.';
COMMENT ON COLUMN links_ending.matched_by IS 'How the account was found: by the `authorization` that it names, else by `holder and institution`, who may have several.';
