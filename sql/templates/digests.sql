-- One part of the digests that hold once runs are loaded: those of before but of what they touched, and those of their listings.
WITH shown AS (
    SELECT
        stripe_account,
        hash(account_id) AS account,
        arg_max((first, second, has_balance), observed_at) AS newest,
        max(observed_at) AS observed_at
    FROM $listed
    WHERE hash(account_id) % $parts = $part
    GROUP BY ALL
),
touched AS (
    SELECT stripe_account, hash(account_id) AS account, max(observed_at) AS observed_at
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
SELECT stripe_account, account, newest[1], newest[2], newest[3]
FROM shown
LEFT JOIN touched USING (stripe_account, account)
WHERE $are_of_now AND (touched.observed_at IS NULL OR touched.observed_at <= shown.observed_at)
ORDER BY stripe_account
