-- Every refresh belongs to a known account.
SELECT account_id, feature, observed_at FROM history.refreshes ANTI JOIN history.accounts USING (account_id);
