-- Plot: the twelve institutions of most accounts.
SELECT coalesce(institution_name, 'not said') AS institution, feature, max(share_failed)::DOUBLE AS share_failed,
    sum(accounts)::BIGINT AS accounts
FROM refresh_health
WHERE coalesce(institution_name, 'not said') IN (
    SELECT coalesce(institution_name, 'not said') FROM refresh_health
    GROUP BY ALL ORDER BY sum(accounts) DESC, coalesce(institution_name, 'not said') LIMIT 12
)
GROUP BY ALL ORDER BY ALL
