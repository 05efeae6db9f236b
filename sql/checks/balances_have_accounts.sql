-- Every balance belongs to a known account.
SELECT account_id, currency, observed_at FROM history.balances ANTI JOIN history.accounts USING (account_id);
