-- No balance is newer than the one that its account speaks of (it is older where the newest names no currency).
SELECT stripe_account, account_id, a.balance_as_of, b.as_of
FROM accounts AS a
-- touched: SEMI JOIN (SELECT stripe_account, account_id FROM touched.accounts UNION ALL SELECT stripe_account, account_id FROM touched.balances) USING (stripe_account, account_id)
JOIN (SELECT DISTINCT stripe_account, account_id, as_of FROM balances) AS b USING (stripe_account, account_id)
WHERE a.balance_as_of IS NOT NULL AND b.as_of > a.balance_as_of;
