-- One part of the rows of the accounts that are known as listed and were not shown, as of the last page of the listing.
SELECT
    account_id,
    stripe_account,
    $$ended::TIMESTAMPTZ AS absent_since,
    $$ended::TIMESTAMPTZ AS observed_at,
    $$run_id AS run_id,
    $$silent::VARCHAR[] AS absent
FROM ($known) AS version
WHERE stripe_account = $$stripe_account
    AND absent_since IS NULL
    AND version.observed_at < $$ended
    AND hash(account_id) % $parts = $part
    AND account_id NOT IN (SELECT account_id FROM ($shown) WHERE hash(account_id) % $parts = $part)
