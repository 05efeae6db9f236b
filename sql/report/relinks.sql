SELECT account_holder_id AS holder, institution_name AS institution, account_id AS account, status, cause, works_until, days_left
FROM relink_needed ORDER BY works_until NULLS FIRST, institution, account
