-- Every account that a session names is known, or was rejected.
SELECT stripe_account, session_id, account_id
FROM session_accounts
-- touched: SEMI JOIN touched.session_accounts USING (stripe_account, session_id)
ANTI JOIN lake.accounts USING (stripe_account, account_id)
ANTI JOIN (
    SELECT stripe_account, object_id AS account_id FROM lake.rejects WHERE object_type = 'account'
) USING (stripe_account, account_id);
