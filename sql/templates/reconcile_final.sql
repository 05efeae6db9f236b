-- The currencies whose sums differ between balances that a run has added as they were staged and what the lake has of it.
WITH sums AS (
    SELECT currency, 'seen' AS side, (count(*), sum(current), sum(available), sum(used)) AS sums
    FROM $final WHERE currency IS NOT NULL GROUP BY currency
    UNION ALL
    SELECT currency, 'known', (count(*), sum(current), sum(available), sum(used))
    FROM $held WHERE currency IS NOT NULL GROUP BY currency
)
SELECT currency, max(sums) FILTER (side = 'seen') AS seen, max(sums) FILTER (side = 'known') AS known
FROM sums GROUP BY currency HAVING seen IS DISTINCT FROM known
