-- What a run put in the place of another's versions is there: one that was cut short has put back what it took out.
-- An older fincon did not; a listing of all accounts (`fincon sync`) brings it back.
WITH out AS (
    SELECT identity_hash AS run_id, table_name, run_id AS loser, max(observed_at) AS observed_at
    FROM erasures
    WHERE action = 'superseded'
    GROUP BY ALL
    HAVING sum(rows_erased) > 0
)
SELECT DISTINCT out.run_id, out.table_name
FROM out
LEFT JOIN runs AS loser ON loser.run_id = out.loser
WHERE out.run_id NOT IN (SELECT run_id FROM runs)
    AND NOT EXISTS (
        FROM runs AS later
        WHERE later.stripe_account IS NOT DISTINCT FROM loser.stripe_account
            AND contains(later.mode, 'accounts')
            AND later.started_at > out.observed_at
    );
