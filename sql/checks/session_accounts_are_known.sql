-- Every account that a session names is known, or was rejected.
SELECT session_id, account_id
FROM session_accounts
ANTI JOIN history.accounts USING (account_id)
ANTI JOIN (SELECT object_id AS account_id FROM history.rejects WHERE object_type = 'account') USING (account_id);
