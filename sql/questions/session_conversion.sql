-- Of the sessions begun, how many linked an account, and how many of those accounts still work.
CREATE VIEW session_conversion AS
WITH outcome AS (
    SELECT s.session_id, s.account_holder_type, s.permissions, count(a.account_id) AS linked, count(*) FILTER (a.status = 'active') AS active
    FROM sessions AS s
    LEFT JOIN session_accounts AS l USING (session_id)
    LEFT JOIN accounts AS a USING (account_id)
    GROUP BY ALL
)
SELECT
    account_holder_type,
    list_sort(permissions) AS permissions,
    count(*) AS sessions,
    count(*) FILTER (linked > 0) AS sessions_with_accounts,
    count(*) FILTER (active > 0) AS sessions_with_active_accounts,
    sum(linked)::BIGINT AS accounts,
    sum(active)::BIGINT AS active_accounts,
    (sessions_with_accounts / sessions)::DECIMAL(9, 4) AS share_linked
FROM outcome
GROUP BY ALL;

COMMENT ON VIEW session_conversion IS 'From sessions to linked accounts to active ones, per holder type and permissions asked for.';
COMMENT ON COLUMN session_conversion.account_holder_type IS 'customer, account, …; null = no holder.';
COMMENT ON COLUMN session_conversion.permissions IS 'Permissions asked for, sorted.';
COMMENT ON COLUMN session_conversion.sessions IS 'Sessions.';
COMMENT ON COLUMN session_conversion.sessions_with_accounts IS 'Sessions that linked an account.';
COMMENT ON COLUMN session_conversion.sessions_with_active_accounts IS 'Sessions with an account that is active now.';
COMMENT ON COLUMN session_conversion.accounts IS 'Accounts linked.';
COMMENT ON COLUMN session_conversion.active_accounts IS 'Of these, active now.';
COMMENT ON COLUMN session_conversion.share_linked IS 'Sessions with accounts of all sessions, between 0 and 1.';
