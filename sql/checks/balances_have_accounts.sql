-- Every balance belongs to a known account.
SELECT stripe_account, account_id, currency, observed_at
FROM lake.balances -- touched: FROM touched.balances
ANTI JOIN lake.accounts USING (stripe_account, account_id);
