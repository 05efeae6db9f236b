-- The currencies whose sums differ between what a run saw last of each account and what is known of it now. An account of
-- which something newer is known (the run read an old event) is left out.
WITH seen_last AS ($seen_last),
known AS (FROM ($known) SEMI JOIN seen_last USING (stripe_account, account_id)),
newer AS (
    SELECT stripe_account, account_id
    FROM known AS k JOIN seen_last AS s USING (stripe_account, account_id)
    WHERE k.observed_at > s.observed_at
),
sums AS (
    SELECT currency, 'seen' AS side, (count(*), sum(current), sum(available), sum(used)) AS sums
    FROM seen_last ANTI JOIN newer USING (stripe_account, account_id) WHERE currency IS NOT NULL GROUP BY currency
    UNION ALL
    SELECT currency, 'known', (count(*), sum(current), sum(available), sum(used))
    FROM known ANTI JOIN newer USING (stripe_account, account_id) WHERE currency IS NOT NULL GROUP BY currency
)
SELECT currency, max(sums) FILTER (side = 'seen') AS seen, max(sums) FILTER (side = 'known') AS known
FROM sums GROUP BY currency HAVING seen IS DISTINCT FROM known
