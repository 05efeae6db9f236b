SELECT coalesce(institution_name, 'not said') AS institution, feature, sum(accounts)::BIGINT AS accounts,
    coalesce(sum(accounts) FILTER (status = 'failed'), 0)::BIGINT AS failed, sum(never_succeeded)::BIGINT AS never_succeeded,
    max(last_success_at) AS last_success
FROM refresh_health GROUP BY ALL ORDER BY failed DESC, accounts DESC, institution, feature
