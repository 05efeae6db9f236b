-- Of the sessions begun, how many linked an account, how many of those accounts still work, and was what was asked granted.
-- Grain: one row per Stripe account, holder type, filters and permissions asked for, day first seen, day and institution of the
--   first account linked. Each session counts in one row, so counts can be added up over any of them; an account that two
--   sessions collected counts in both. Stripe gives sessions no date: the day first seen here is never before the session,
--   and that of the first account may be, where it was linked already.
-- Units: counts; shares between 0 and 1; days in UTC.
-- Example: SELECT date_trunc('month', first_seen_on) AS month, sum(sessions) AS begun, sum(sessions_with_accounts) AS linked FROM session_conversion GROUP BY ALL;
CREATE VIEW session_conversion AS
WITH first_seen AS (
    SELECT stripe_account, session_id, make_timestamp(epoch_us(min(observed_at)))::DATE AS first_seen_on
    FROM lake.sessions
    GROUP BY stripe_account, session_id
),
links AS (
    SELECT
        stripe_account,
        session_id,
        s.account_holder_type,
        list_sort(s.filter_countries) AS filter_countries,
        list_sort(s.filter_account_subcategories) AS filter_account_subcategories,
        list_sort(s.permissions) AS permissions,
        f.first_seen_on,
        make_timestamp(epoch_us(min(a.created_at) OVER (PARTITION BY stripe_account, session_id)))::DATE AS first_linked_on,
        first_value(a.institution_name) OVER (
            PARTITION BY stripe_account, session_id ORDER BY a.created_at NULLS LAST, account_id
        ) AS institution_name,
        l.account_id,
        a.status = 'active' AND a.absent_since IS NULL AS is_active,
        CASE
            WHEN a.permissions IS NOT NULL AND s.permissions IS NOT NULL
            THEN [asked FOR asked IN s.permissions IF NOT list_contains(a.permissions, asked)]
        END AS not_granted
    FROM sessions AS s
    LEFT JOIN first_seen AS f USING (stripe_account, session_id)
    LEFT JOIN session_accounts AS l USING (stripe_account, session_id)
    LEFT JOIN accounts AS a USING (stripe_account, account_id)
)
SELECT
    stripe_account,
    account_holder_type,
    filter_countries,
    filter_account_subcategories,
    permissions,
    first_seen_on,
    first_linked_on,
    institution_name,
    count(DISTINCT session_id) AS sessions,
    count(DISTINCT session_id) FILTER (account_id IS NOT NULL) AS sessions_with_accounts,
    count(DISTINCT session_id) FILTER (is_active) AS sessions_with_active_accounts,
    count(account_id) AS accounts,
    count(*) FILTER (is_active) AS active_accounts,
    count(*) FILTER (len(not_granted) = 0) AS accounts_granted_all,
    count(*) FILTER (len(not_granted) > 0) AS accounts_granted_less,
    coalesce(list_sort(list_distinct(flatten(list(not_granted) FILTER (not_granted IS NOT NULL)))), []) AS not_granted,
    (sessions_with_accounts / sessions)::DECIMAL(9, 4) AS share_linked
FROM links
GROUP BY ALL;

COMMENT ON VIEW session_conversion IS 'One row per Stripe account, holder type, filters and permissions asked for, day, and institution: from sessions to linked accounts to active ones.';
COMMENT ON COLUMN session_conversion.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN session_conversion.account_holder_type IS '`customer`, `account`, …; null = no holder.';
COMMENT ON COLUMN session_conversion.filter_countries IS 'Countries of accounts that could be collected, sorted; null = any.';
COMMENT ON COLUMN session_conversion.filter_account_subcategories IS 'Subcategories of accounts that could be collected, sorted; null = any.';
COMMENT ON COLUMN session_conversion.permissions IS 'Permissions asked for, sorted.';
COMMENT ON COLUMN session_conversion.first_seen_on IS 'Day (UTC) on which the sessions were first seen here.';
COMMENT ON COLUMN session_conversion.first_linked_on IS 'Day (UTC) on which the earliest of a session''s accounts was linked; null = none was, or not said.';
COMMENT ON COLUMN session_conversion.institution_name IS 'Who holds that account; null = none was linked, or not said.';
COMMENT ON COLUMN session_conversion.sessions IS 'Sessions.';
COMMENT ON COLUMN session_conversion.sessions_with_accounts IS 'Sessions that linked an account.';
COMMENT ON COLUMN session_conversion.sessions_with_active_accounts IS 'Sessions with an account that is active now.';
COMMENT ON COLUMN session_conversion.accounts IS 'Accounts linked.';
COMMENT ON COLUMN session_conversion.active_accounts IS 'Of these, active now.';
COMMENT ON COLUMN session_conversion.accounts_granted_all IS 'Of the accounts linked, those that grant now all that was asked for.';
COMMENT ON COLUMN session_conversion.accounts_granted_less IS 'Those that lack something; where Stripe does not say what an account grants, it is in neither.';
COMMENT ON COLUMN session_conversion.not_granted IS 'Permissions asked for that at least one of the accounts does not grant now, sorted.';
COMMENT ON COLUMN session_conversion.share_linked IS 'Sessions with accounts of all sessions, between 0 and 1.';
