-- No run has succeeded for a day.
SELECT max(started_at) AS last_run, date_sub('hour', max(started_at), now()) AS hours_ago, max(started_at)::VARCHAR AS key
FROM runs
WHERE NOT starts_with(mode, 'webhooks')  -- they come whatever else fails
HAVING max(started_at) < now() - INTERVAL 1 DAY;
