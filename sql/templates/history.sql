-- Every version of $table, and from when to when it was the latest known.
CREATE VIEW history.$table AS
FROM (SELECT
    *,
    observed_at AS valid_from,
    min(observed_at) OVER (
        PARTITION BY $key ORDER BY observed_at
        RANGE BETWEEN INTERVAL 1 MICROSECOND FOLLOWING AND UNBOUNDED FOLLOWING
    ) AS valid_to
FROM lake.$table)
WHERE NOT $blank;
