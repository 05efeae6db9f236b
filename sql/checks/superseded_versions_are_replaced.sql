-- What a run put in the place of another's versions is there: a run that was cut short and taken out leaves nothing in theirs.
-- A listing of all accounts (`fincon sync`) brings it back.
SELECT DISTINCT e.identity_hash AS run_id, e.table_name
FROM erasures AS e
LEFT JOIN runs AS loser ON loser.run_id = e.run_id
WHERE e.action = 'superseded'
    AND e.identity_hash NOT IN (SELECT run_id FROM runs)
    AND NOT EXISTS (
        FROM runs AS later
        WHERE later.stripe_account IS NOT DISTINCT FROM loser.stripe_account
            AND contains(later.mode, 'accounts')
            AND later.started_at > e.observed_at
    );
