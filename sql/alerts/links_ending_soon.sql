-- Links have ended, or end within 14 days: ask whose they are to link them again.
SELECT
    stripe_account, authorization_id, account_holder_id, institution_name, status, action, ends_at, days_left,
    count(account_id) AS accounts,
    authorization_id || coalesce(ends_at::VARCHAR, status) AS key
FROM links_ending
WHERE status <> 'active' OR days_left <= 14
GROUP BY ALL;
