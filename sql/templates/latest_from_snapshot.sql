-- The latest known version of every object of $table: what stood in the last snapshot and was not seen changed
-- since, and the newest of what was.
WITH touched AS (SELECT DISTINCT $key FROM $since),
candidates AS (
    FROM $since
    UNION ALL BY NAME
    (FROM $snapshot AS version SEMI JOIN touched AS newest ON $same_object)
),
newest AS (SELECT $key, max(observed_at) AS observed_at FROM candidates GROUP BY ALL)
FROM $snapshot AS version
ANTI JOIN touched AS newest ON $same_object
UNION ALL BY NAME
(FROM candidates AS version SEMI JOIN newest ON $same_object AND version.observed_at = newest.observed_at)
