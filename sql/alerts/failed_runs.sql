-- Runs fail since the last one of the same mode that succeeded, or are interrupted again and again.
WITH last_success AS (
    SELECT stripe_account, mode, max(started_at) AS succeeded_at FROM attempts WHERE status = 'succeeded' GROUP BY ALL
)
SELECT
    stripe_account,
    mode,
    min(started_at) AS failing_since,
    count(*) AS attempts,
    max_by(error, started_at) AS error,
    max_by(hint, started_at) AS hint,
    concat_ws(' ', stripe_account, mode, min(started_at)) AS key
FROM attempts LEFT JOIN last_success USING (stripe_account, mode)
WHERE status IN ('failed', 'interrupted') AND (succeeded_at IS NULL OR started_at > succeeded_at)
GROUP BY stripe_account, mode
HAVING count(*) FILTER (status = 'failed') > 0 OR count(*) > 2;
