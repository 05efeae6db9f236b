-- What was known of every object of $table at the time ts. A date or a time without a zone is taken as UTC, whatever
-- the reader's time zone.
CREATE MACRO main.${table}_as_of(ts) AS TABLE
FROM lake.$table AS version
SEMI JOIN (
    SELECT $key, max(observed_at) AS observed_at
    FROM lake.$table
    WHERE observed_at <= (
        ts::VARCHAR || CASE
            WHEN regexp_full_match(ts::VARCHAR, '[0-9-]+') THEN ' 00:00:00+00'
            WHEN regexp_full_match(ts::VARCHAR, '[0-9-]+[ T][0-9:.]+') THEN '+00'
            ELSE ''
        END
    )::TIMESTAMPTZ
    GROUP BY ALL
) AS newest
ON $same_object AND version.observed_at = newest.observed_at
WHERE NOT $blank;
