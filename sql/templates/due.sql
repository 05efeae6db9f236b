-- The accounts whose $feature refresh moved on since its rows were read: another attempt than then, or that attempt has
-- succeeded since. Of owners also: another ownership, or another choice about personal data. And what Stripe refused a day ago.
WITH seen AS (
    FROM seen_refreshes WHERE feature = '$feature'
),
latest AS (
    SELECT
        account_id,
        unnest(max_by(
            struct_pack(status := status, last_attempted_at := last_attempted_at, refresh_id := refresh_id), observed_at
        ))
    FROM (
        FROM ($refreshes) SEMI JOIN seen USING (account_id)
        WHERE feature = '$feature' AND stripe_account = $$stripe_account
        UNION ALL BY NAME
        FROM seen
    )
    GROUP BY account_id
    UNION ALL BY NAME
    -- What this run saw nothing of stands as it is known: most of it, and to group it, or to read it for both at once, takes much memory.
    SELECT account_id, status, last_attempted_at, refresh_id
    FROM ($refreshes)
    ANTI JOIN seen USING (account_id)
    WHERE feature = '$feature' AND stripe_account = $$stripe_account
),
ownerships AS (
    SELECT account_id, unnest(max_by(struct_pack(ownership_id := ownership_id), observed_at))
    FROM (
        FROM ($accounts) WHERE stripe_account = $$stripe_account
        UNION ALL BY NAME
        FROM seen_accounts
    )
    GROUP BY account_id
),
watermark AS (
    FROM ($watermarks) WHERE feature = '$feature' AND stripe_account = $$stripe_account
)
SELECT
    account_id,
    epoch_us(latest.last_attempted_at) // 1000000 AS last_attempted_at,
    latest.status,
    watermark.refresh_id AS after,
    CASE WHEN latest.status = 'succeeded' THEN latest.refresh_id ELSE watermark.refresh_id END AS refresh_id,
    ownerships.ownership_id,
    watermark.refused_at IS NOT NULL AS refused_before
FROM latest
LEFT JOIN ownerships USING (account_id)
LEFT JOIN watermark USING (account_id)
WHERE latest.status IS NOT NULL
    AND ('$feature' <> 'ownership' OR ownerships.ownership_id <> '')
    AND (watermark.account_id IS NULL
    OR watermark.last_attempted_at IS DISTINCT FROM latest.last_attempted_at
    OR (latest.status = 'succeeded' AND watermark.status IS DISTINCT FROM 'succeeded')
    OR ('$feature' = 'ownership' AND watermark.ownership_id IS DISTINCT FROM ownerships.ownership_id)
    OR ('$feature' = 'ownership' AND watermark.pii IS DISTINCT FROM nullif($$pii, ''))
    OR watermark.refused_at <= $$refused_until)
