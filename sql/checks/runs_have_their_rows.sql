-- A run's rows_added is the number of its rows, and of those erased since: none was lost.
WITH found AS (
    SELECT run_id, count(*) AS rows_found
    FROM (
        -- For each table
        SELECT run_id FROM lake.$table -- touched: SELECT run_id FROM touched.$table
        -- End
    )
    GROUP BY ALL
),
erased AS (
    SELECT run_id, sum(rows_erased)::BIGINT AS rows_erased FROM erasures GROUP BY ALL
)
SELECT run_id, r.rows_added, coalesce(f.rows_found, 0) AS rows_found, coalesce(e.rows_erased, 0) AS rows_erased
FROM runs AS r -- touched: FROM touched.runs AS r
LEFT JOIN found AS f USING (run_id)
LEFT JOIN erased AS e USING (run_id)
WHERE r.rows_added <> coalesce(f.rows_found, 0) + coalesce(e.rows_erased, 0);
