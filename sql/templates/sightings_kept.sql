-- The sightings that something late can still be older than: $$overlap before what is known to be complete.
WITH horizon AS (
    SELECT
        stripe_account,
        greatest(coalesce(max(until), max(observed_at)), max(observed_at) - INTERVAL 30 DAY) - $$overlap AS at
    FROM sightings
    LEFT JOIN complete USING (stripe_account)
    GROUP BY stripe_account
)
SELECT $distinct sightings.*
FROM sightings
JOIN horizon USING (stripe_account)
WHERE sightings.observed_at >= horizon.at
