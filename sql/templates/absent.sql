-- A row for each account that is known as listed and was not shown, as of the last page of the listing.
WITH ended AS (
    SELECT greatest(coalesce(max(observed_at), $$listed_from), $$listed_from) AS observed_at
    FROM $listed
    WHERE epoch_us(observed_at) % $second < $events_from
)
SELECT
    account_id,
    stripe_account,
    ended.observed_at AS absent_since,
    ended.observed_at,
    $$run_id AS run_id,
    $$silent::VARCHAR[] AS absent
FROM ($known) AS version, ended
WHERE stripe_account = $$stripe_account
    AND absent_since IS NULL
    AND version.observed_at < ended.observed_at
    AND account_id NOT IN (SELECT account_id FROM ($shown))
