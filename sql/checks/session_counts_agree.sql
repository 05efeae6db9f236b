-- A session's account_count is the number of its rows in session_accounts, where none was erased or unreadable.
SELECT stripe_account, session_id, s.account_count, count(l.account_id) AS rows_found
FROM sessions AS s
-- touched: SEMI JOIN (SELECT stripe_account, session_id FROM touched.sessions UNION ALL SELECT stripe_account, session_id FROM touched.session_accounts) USING (stripe_account, session_id)
LEFT JOIN session_accounts AS l USING (stripe_account, session_id)
GROUP BY ALL
HAVING s.account_count < rows_found
    OR (
        s.account_count > rows_found
        AND NOT exists(SELECT 1 FROM lake.rejects WHERE object_type = 'account' AND object_id IS NULL)
        AND NOT exists(SELECT 1 FROM erasures WHERE table_name = 'session_accounts')
    );
