-- What happened to the link of an account, from first to last: why has this customer no balance?
-- Grain: one row per account and event: linked, collected by a session, status, notice to relink, relinked, outcome of each
--   refresh that was seen, first balance, none any more, refused, off the list, back on it. `link_timeline(account)` has those of one.
--   What came and went between two syncs is not known; a session has no time of its own, so `happened_at` is when it was first seen.
-- Units: times in UTC.
-- Example: SELECT happened_at, event, feature, detail FROM link_timeline('fca_…') ORDER BY happened_at, seen_at;
CREATE VIEW link_timeline AS
WITH versions AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        observed_at,
        created_at,
        status,
        absent_since,
        list_sort(permissions) AS granted,
        CASE WHEN status = 'active' AND status_details.active.action = 'relink_required' THEN {
            'cause': status_details.active.cause,
            'until': status_details.active.expected_deactivation_date
        } END AS notice,
        absent_since IS NULL AND status IS NOT DISTINCT FROM 'active' AND notice IS NULL AS is_well
    FROM lake.accounts
),
compared AS NOT MATERIALIZED (
    SELECT
        *,
        row_number() OVER by_time = 1 AS is_first,
        lag(status) OVER by_time AS status_before,
        lag(absent_since) OVER by_time AS absent_before,
        lag(granted) OVER by_time AS granted_before,
        lag(notice) OVER by_time AS notice_before
    FROM versions
    WINDOW by_time AS (PARTITION BY stripe_account, account_id ORDER BY observed_at)
),
turns AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        observed_at,
        unnest([
            {
                'event': CASE WHEN is_first THEN 'linked' END,
                'happened_at': coalesce(created_at, observed_at),
                'detail': NULL::VARCHAR,
                'until': NULL::TIMESTAMPTZ
            },
            {
                'event': CASE WHEN status <> 'active' AND status IS DISTINCT FROM status_before THEN status END,
                'happened_at': observed_at,
                'detail': NULL,
                'until': NULL
            },
            {
                'event': CASE WHEN notice IS NOT NULL AND notice IS DISTINCT FROM notice_before THEN 'relink_notice' END,
                'happened_at': observed_at,
                'detail': notice.cause,
                'until': notice.until
            },
            {
                'event': CASE
                    WHEN is_well AND (status_before <> 'active' OR notice_before IS NOT NULL) THEN 'relinked'
                END,
                'happened_at': observed_at,
                'detail': NULL,
                'until': NULL
            },
            {
                'event': CASE WHEN absent_since IS NOT NULL AND absent_before IS NULL THEN 'absent' END,
                'happened_at': least(absent_since, observed_at),
                'detail': NULL,
                'until': NULL
            },
            {
                'event': CASE WHEN absent_since IS NULL AND absent_before IS NOT NULL THEN 'listed_again' END,
                'happened_at': observed_at,
                'detail': NULL,
                'until': NULL
            },
            {
                'event': CASE
                    WHEN NOT is_first AND granted IS DISTINCT FROM granted_before THEN 'permissions_changed'
                END,
                'happened_at': observed_at,
                'detail': array_to_string(granted, ', '),
                'until': NULL
            }
        ]) AS turn
    FROM compared
),
balance_versions AS NOT MATERIALIZED (
    SELECT stripe_account, account_id, observed_at, bool_or(currency IS NOT NULL) AS is_known
    FROM lake.balances
    GROUP BY stripe_account, account_id, observed_at
),
balance_turns AS NOT MATERIALIZED (
    SELECT *, coalesce(lag(is_known) OVER (PARTITION BY stripe_account, account_id ORDER BY observed_at), false) AS was_known
    FROM balance_versions
),
events AS NOT MATERIALIZED (
    SELECT stripe_account, account_id, turn.happened_at, turn.event, NULL AS feature, turn.detail, turn.until, observed_at AS seen_at
    FROM turns
    WHERE turn.event IS NOT NULL
    UNION ALL
    SELECT stripe_account, account_id, min(observed_at), 'collected', NULL, session_id, NULL, min(observed_at)
    FROM lake.session_accounts
    WHERE account_id IS NOT NULL
    GROUP BY stripe_account, account_id, session_id
    UNION ALL
    SELECT
        stripe_account,
        account_id,
        last_attempted_at,
        'refresh_' || max_by(status, observed_at),
        feature,
        NULL,
        max_by(next_refresh_available_at, observed_at),
        coalesce(min(observed_at) FILTER (status <> 'pending'), min(observed_at))
    FROM lake.refreshes
    WHERE status IS NOT NULL AND last_attempted_at IS NOT NULL
    GROUP BY stripe_account, account_id, feature, last_attempted_at
    UNION ALL
    SELECT
        stripe_account,
        account_id,
        observed_at,
        CASE WHEN is_known THEN 'balance_known' ELSE 'balance_gone' END,
        'balance',
        NULL,
        NULL,
        observed_at
    FROM balance_turns
    WHERE is_known <> was_known
    UNION ALL
    SELECT stripe_account, account_id, refused_at, 'refused', feature, any_value(refusal), NULL, min(observed_at)
    FROM lake.watermarks
    WHERE refused_at IS NOT NULL
    GROUP BY stripe_account, account_id, feature, refused_at
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    e.happened_at,
    e.event,
    e.feature,
    e.detail,
    e.until,
    e.seen_at
FROM events AS e
LEFT JOIN accounts AS a USING (stripe_account, account_id);

CREATE MACRO link_timeline(account) AS TABLE FROM link_timeline WHERE account_id = account;

COMMENT ON MACRO TABLE link_timeline IS 'As the view of the same name, of one account.';
COMMENT ON VIEW link_timeline IS 'One row per account and event in the life of its link: linked, each refresh seen, notices, disconnected, relinked.';
COMMENT ON COLUMN link_timeline.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN link_timeline.account_id IS 'The account.';
COMMENT ON COLUMN link_timeline.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN link_timeline.happened_at IS 'When it happened, where Stripe says that; else when it was first seen (UTC).';
COMMENT ON COLUMN link_timeline.event IS '`linked`, `collected` (by a session), `relink_notice`, `inactive`, `disconnected` or another status, `relinked`, `absent`, `listed_again`, `permissions_changed`, `refresh_succeeded`, `refresh_failed`, `refresh_pending`, `balance_known`, `balance_gone`, `refused`.';
COMMENT ON COLUMN link_timeline.feature IS 'Of a refresh or a refusal: `balance`, `ownership` or `transaction`; null = it is about the link.';
COMMENT ON COLUMN link_timeline.detail IS 'The session, the cause of a notice, the permissions since, or Stripe''s refusal; null = nothing more is known.';
COMMENT ON COLUMN link_timeline.until IS 'Of a notice: when the link is expected to end; of a refresh: from when the next is allowed (UTC).';
COMMENT ON COLUMN link_timeline.seen_at IS 'When it was first seen here (UTC).';
