-- The latest known version of every object of $table: what stood in the last snapshot and was not seen changed since, and
-- the newest of what was, unless the snapshot's is newer. Each relation is the left side of its joins, so that a filter on
-- any column reaches its files; the snapshot is read a second time by its key and time alone.
WITH newest AS (SELECT $key, max(observed_at) AS observed_at FROM $since GROUP BY ALL)
FROM $snapshot AS version
ANTI JOIN newest ON $same_object AND newest.observed_at >= version.observed_at
UNION ALL BY NAME
(
    FROM (FROM $since AS version SEMI JOIN newest ON $same_object AND version.observed_at = newest.observed_at) AS version
    ANTI JOIN (SELECT $key, observed_at FROM $snapshot) AS newest
    ON $same_object AND newest.observed_at > version.observed_at
)
