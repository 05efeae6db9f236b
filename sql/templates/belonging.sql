-- What belongs to the holder $$id, as (id, kind): accounts and sessions of which any version names them, and accounts that have
-- never named a holder and that their sessions alone collected.
WITH held AS (
    SELECT account_id AS id, 'account' AS kind, COLUMNS('^account_holder_.*_id$$') FROM $accounts
    UNION ALL
    SELECT session_id AS id, 'session' AS kind, COLUMNS('^account_holder_.*_id$$') FROM $sessions
),
theirs AS (
    SELECT id, kind FROM held
    WHERE $$id IN (account_holder_customer_id, account_holder_customer_account_id, account_holder_account_id)
),
others AS (
    SELECT id FROM held ANTI JOIN theirs USING (id, kind)
    WHERE coalesce(account_holder_customer_id, account_holder_customer_account_id, account_holder_account_id) IS NOT NULL
),
collected AS (
    SELECT account_id AS id FROM $session_accounts AS link SEMI JOIN theirs ON session_id = theirs.id
    WHERE account_id IS NOT NULL AND account_id NOT IN (FROM others)
    AND account_id NOT IN (SELECT account_id FROM $session_accounts AS link SEMI JOIN others ON session_id = others.id
        WHERE account_id IS NOT NULL)
)
SELECT id, kind FROM theirs
UNION
SELECT id, 'account' FROM collected
