-- Plot: sessions, and what became of them.
WITH steps AS (
    SELECT sum(sessions)::BIGINT AS a, sum(sessions_with_accounts)::BIGINT AS b, sum(sessions_with_active_accounts)::BIGINT AS c
    FROM session_conversion
)
SELECT unnest(['sessions begun', 'with a linked account', 'with one active now']) AS name,
    unnest([a, b, c]) AS count, unnest([a, b, c]) / a AS share
FROM steps WHERE a > 0
