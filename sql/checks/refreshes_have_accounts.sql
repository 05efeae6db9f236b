-- Every refresh belongs to a known account.
SELECT stripe_account, account_id, feature, observed_at
FROM lake.refreshes -- touched: FROM touched.refreshes
ANTI JOIN lake.accounts USING (stripe_account, account_id);
