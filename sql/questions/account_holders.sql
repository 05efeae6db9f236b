-- What each account holder holds and owes.
-- Grain: one row per account holder (a customer or an account of the Stripe account) and currency, over their accounts
--   that are not disconnected; accounts with no known balance stand in a row of their own without a currency.
-- Units: minor units of the currency, and `…_amount` in its major unit. Never add rows of different currencies.
-- Example: SELECT account_holder_id, current_amount FROM account_holders WHERE currency = 'usd' ORDER BY current_amount DESC LIMIT 10;
CREATE VIEW account_holders AS
SELECT
    stripe_account,
    a.account_holder_type,
    coalesce(a.account_holder_customer_id, a.account_holder_account_id, a.account_holder_customer_account_id) AS account_holder_id,
    b.currency,
    count(*) AS accounts,
    count(*) FILTER (a.status = 'active') AS active_accounts,
    sum(b.current)::HUGEINT AS current,
    sum(b.available)::HUGEINT AS available,
    sum(b.used)::HUGEINT AS used,
    sum(b.current_amount)::DECIMAL(38, 4) AS current_amount,
    sum(b.available_amount)::DECIMAL(38, 4) AS available_amount,
    sum(b.used_amount)::DECIMAL(38, 4) AS used_amount
FROM accounts AS a
LEFT JOIN balances AS b USING (stripe_account, account_id)
WHERE a.account_holder_type IS NOT NULL AND a.status IS DISTINCT FROM 'disconnected'
GROUP BY ALL;

COMMENT ON VIEW account_holders IS 'One row per account holder and currency: their accounts, and what they hold and owe; disconnected accounts left out.';
COMMENT ON COLUMN account_holders.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN account_holders.account_holder_type IS '`customer`, `account`, …';
COMMENT ON COLUMN account_holders.account_holder_id IS 'Whose accounts they are (`cus_…` or `acct_…`).';
COMMENT ON COLUMN account_holders.currency IS 'ISO code in lower case; null = accounts with no known balance.';
COMMENT ON COLUMN account_holders.accounts IS 'Accounts with a balance in this currency.';
COMMENT ON COLUMN account_holders.active_accounts IS 'Of these, active now.';
COMMENT ON COLUMN account_holders.current IS 'Sum of current, in minor units; negative = owed by the holder.';
COMMENT ON COLUMN account_holders.available IS 'Sum of available, in minor units.';
COMMENT ON COLUMN account_holders.used IS 'Sum of used, in minor units.';
COMMENT ON COLUMN account_holders.current_amount IS 'Sum of current, in major units; negative = owed by the holder.';
COMMENT ON COLUMN account_holders.available_amount IS 'Sum of available, in major units.';
COMMENT ON COLUMN account_holders.used_amount IS 'Sum of used, in major units.';
