-- One part of the digests that hold once runs are loaded: those of before but of what they touched, and those of their listings.
-- An account that was not known has one where its rows are of that moment: else it could not be read, was seen later, or is
-- said to be no more.
WITH shown AS (
    SELECT
        stripe_account,
        hash(account_id) AS account,
        arg_max((first, second, unchanged, has_balance), observed_at) AS newest,
        max(observed_at) AS observed_at
    FROM $listed
    WHERE hash(account_id) % $parts = $part
    GROUP BY ALL
),
touched AS (
    SELECT
        stripe_account,
        hash(account_id) AS account,
        max(observed_at) AS observed_at,
        arg_max(balance_as_of IS NOT NULL, observed_at) AS has_balance,
        arg_max(absent_since IS NULL, observed_at) AS is_there
    FROM $touched
    WHERE hash(account_id) % $parts = $part
    GROUP BY ALL
)
SELECT stripe_account, account, first, second, has_balance
FROM $known
ANTI JOIN touched USING (stripe_account, account)
WHERE account % $parts = $part
    AND stripe_account NOT IN (SELECT DISTINCT stripe_account FROM $listed)
UNION ALL
SELECT stripe_account, account, newest[1], newest[2], CASE WHEN newest[3] THEN newest[4] ELSE touched.has_balance END
FROM shown
LEFT JOIN touched USING (stripe_account, account)
WHERE $are_of_now
    AND CASE WHEN newest[3] THEN touched.observed_at IS NULL ELSE is_there AND touched.observed_at = shown.observed_at END
