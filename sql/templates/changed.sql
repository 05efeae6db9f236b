-- The staged rows of $table that belong to a version which differs from the one before it; all that is known is older.
--
-- The rows of one version are compared together, so that a currency that is gone is a change. Contents are compared by
-- 128 bits of two hashes, computed here and now and kept nowhere, so that millions of objects fit into little memory.
-- Only of an object with a version unlike the known one are versions put in order: of most, all are alike.
WITH seen AS MATERIALIZED (
    SELECT $key, observed_at, $first_hash AS first_hash, $second_hash AS second_hash, $blank AS is_blank, true AS staged
    FROM $staged $group
),
known AS MATERIALIZED (
    SELECT $key, observed_at, $first_hash AS first_hash, $second_hash AS second_hash, $blank AS is_blank, false AS staged
    FROM $known $group
),
unlike AS MATERIALIZED (
    SELECT $key
    FROM seen AS version
    ANTI JOIN known AS newest
    ON $same_object AND version.first_hash = newest.first_hash AND version.second_hash = newest.second_hash
),
versions AS (
    FROM seen AS version SEMI JOIN unlike AS newest ON $same_object
    UNION ALL
    FROM known AS version SEMI JOIN unlike AS newest ON $same_object
),
with_neighbours AS (
    SELECT
        *,
        lag(first_hash) OVER by_time AS first_hash_before,
        lag(second_hash) OVER by_time AS second_hash_before,
        is_blank AND lag(observed_at) OVER by_time IS NULL AS is_nothing
    FROM versions
    WINDOW by_time AS (PARTITION BY $key ORDER BY observed_at, staged)
),
changed AS (
    SELECT $key, observed_at
    FROM with_neighbours
    WHERE staged
        AND NOT is_nothing
        AND (first_hash IS DISTINCT FROM first_hash_before OR second_hash IS DISTINCT FROM second_hash_before)
)
SELECT $columns
FROM $staged AS version
SEMI JOIN changed AS newest ON $same_object AND version.observed_at = newest.observed_at
