-- What was known of every object of $table at the time ts.
CREATE MACRO main.${table}_as_of(ts) AS TABLE
FROM lake.$table AS version
SEMI JOIN (
    SELECT $key, max(observed_at) AS observed_at
    FROM lake.$table
    WHERE observed_at <= ts::TIMESTAMPTZ
    GROUP BY ALL
) AS newest
ON $same AND version.observed_at = newest.observed_at;
