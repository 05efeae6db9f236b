-- What a run brings of $table that is older than something which is known, or was seen, of the same objects.
-- Needs the tables staged, known (every version of the same objects) and sightings; adds to late_rows, corrected and superseded.
--
-- A sighting that found what was known already left no row. Where something older comes now, what was seen is said again.
CREATE OR REPLACE TEMP TABLE seen_again AS
WITH touched AS (
    SELECT $key, min(observed_at) AS first_at, min(run_id) AS run_id FROM staged GROUP BY ALL
),
seen AS (
    SELECT touched.*, sighting.observed_at, sighting.absent
    FROM touched
    JOIN sightings AS sighting
        ON sighting.stripe_account = touched.stripe_account
        AND sighting.observed_at > touched.first_at
        AND $seen
),
said AS (
    SELECT seen.* EXCLUDE (first_at), version.observed_at AS version_at
    FROM seen
    ASOF JOIN (SELECT DISTINCT $key, observed_at FROM known) AS version
        ON $same_seen AND seen.observed_at >= version.observed_at
),
-- What was seen before anything was known of an object had nothing, which is no version as long as it is the first.
nothing AS (
    SELECT seen.* EXCLUDE (first_at)
    FROM seen
    ANTI JOIN known AS version ON $same_seen AND seen.observed_at >= version.observed_at
    WHERE $may_be_nothing
)
SELECT version.* REPLACE (said.observed_at AS observed_at, said.run_id AS run_id), said.absent
FROM known AS version
JOIN said ON $same_said AND version.observed_at = said.version_at
ANTI JOIN staged AS newest ON $same_object AND said.observed_at = newest.observed_at
WHERE said.observed_at <> said.version_at
UNION ALL BY NAME
FROM nothing
ANTI JOIN staged AS newest ON $same_nothing AND nothing.observed_at = newest.observed_at;

-- An attribute of which a row says nothing is what was known of it then. Of an object of which nothing is known, a row
-- that says only that it is gone says nothing.
CREATE OR REPLACE TEMP TABLE whole AS
WITH versions AS (
    SELECT *, false AS is_staged, false AS is_again FROM ($known)
    UNION ALL BY NAME
    SELECT *, false AS is_staged, true AS is_again FROM seen_again
    UNION ALL BY NAME
    SELECT *, true AS is_staged, false AS is_again FROM staged
),
SELECT * REPLACE ($completed)
FROM versions
WINDOW so_far AS (PARTITION BY $key ORDER BY observed_at, is_staged ROWS UNBOUNDED PRECEDING);

CREATE OR REPLACE TEMP TABLE arrived AS
SELECT $columns FROM whole WHERE is_again OR (is_staged AND $says_something);

-- So is what is known: where it said nothing of an attribute it has what was known before, which is something else now.
CREATE OR REPLACE TEMP TABLE mended AS
SELECT $columns FROM whole WHERE absent IS NOT NULL AND NOT is_again AND NOT is_staged
EXCEPT
SELECT $columns FROM known;

DELETE FROM known AS version
USING mended AS newest
WHERE $same_object AND version.observed_at = newest.observed_at;

INSERT INTO known BY NAME FROM mended;

INSERT INTO corrected BY NAME FROM mended;

-- What is known of a moment stands.
DELETE FROM arrived AS version
USING known AS newest
WHERE $same_object AND version.observed_at = newest.observed_at;

CREATE OR REPLACE TEMP TABLE steps AS
WITH versions AS (
    SELECT $key, observed_at, $first_hash AS first_hash, $second_hash AS second_hash, bool_and($blank) AS is_blank, true AS is_new
    FROM arrived
    GROUP BY $key, observed_at
    UNION ALL
    SELECT $key, observed_at, $first_hash AS first_hash, $second_hash AS second_hash, bool_and($blank) AS is_blank, false AS is_new
    FROM known
    GROUP BY $key, observed_at
)
SELECT
    $key,
    observed_at,
    is_new,
    lag(is_new, 1, false) OVER by_time AS is_after_new,
    first_hash IS DISTINCT FROM lag(first_hash) OVER by_time
        OR second_hash IS DISTINCT FROM lag(second_hash) OVER by_time AS differs,
    is_blank AND lag(observed_at) OVER by_time IS NULL AS is_nothing
FROM versions
WINDOW by_time AS (PARTITION BY $key ORDER BY observed_at);

INSERT INTO late_rows BY NAME
FROM arrived AS version
SEMI JOIN (FROM steps WHERE is_new AND differs AND NOT is_nothing) AS newest
    ON $same_object AND version.observed_at = newest.observed_at;

-- A known version that says what the one before it says now is no change any more.
INSERT INTO superseded BY NAME
SELECT $key, observed_at, run_id, count(*) AS rows_superseded
FROM known AS version
SEMI JOIN (FROM steps WHERE NOT is_new AND is_after_new AND NOT differs) AS newest
    ON $same_object AND version.observed_at = newest.observed_at
GROUP BY ALL;
