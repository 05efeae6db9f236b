-- What came into and went out of each account, month by month.
-- Grain: one row per account, currency and month (UTC) in which something was posted. Pending and void transactions are
--   left out: the first are not sure yet, the second never were. So is what was posted at a time that is not known.
-- Units: minor units of the currency, and `…_amount` in its major unit. `money_out` is negative or zero.
-- Example: SELECT month, sum(net_amount) AS net FROM transaction_monthly WHERE currency = 'usd' GROUP BY ALL ORDER BY month;
CREATE VIEW transaction_monthly AS
WITH months AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        currency,
        date_trunc('month', make_timestamp(epoch_us(posted_at)))::DATE AS month,
        count(*) AS transactions,
        coalesce(sum(amount) FILTER (amount > 0), 0)::DECIMAL(38, 0) AS money_in,
        coalesce(sum(amount) FILTER (amount < 0), 0)::DECIMAL(38, 0) AS money_out,
        money_in + money_out AS net,
        major_units(money_in, currency) AS money_in_amount,
        major_units(money_out, currency) AS money_out_amount,
        major_units(net, currency) AS net_amount
    FROM transactions
    WHERE status = 'posted' AND posted_at IS NOT NULL
    GROUP BY stripe_account, account_id, currency, month
)
SELECT stripe_account, account_id, a.account_holder_id, months.* EXCLUDE (stripe_account, account_id)
FROM months
LEFT JOIN accounts AS a USING (stripe_account, account_id);

COMMENT ON VIEW transaction_monthly IS 'One row per account, currency and month (UTC): what was posted, in, out and net.';
COMMENT ON COLUMN transaction_monthly.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN transaction_monthly.account_id IS 'The account.';
COMMENT ON COLUMN transaction_monthly.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN transaction_monthly.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN transaction_monthly.month IS 'The first day of the month, in UTC, by when transactions were posted.';
COMMENT ON COLUMN transaction_monthly.transactions IS 'How many were posted.';
COMMENT ON COLUMN transaction_monthly.money_in IS 'Sum of those to the account holder, in minor units.';
COMMENT ON COLUMN transaction_monthly.money_out IS 'Sum of those from the account holder, in minor units; negative or zero.';
COMMENT ON COLUMN transaction_monthly.net IS '`money_in` and `money_out` together, in minor units.';
COMMENT ON COLUMN transaction_monthly.money_in_amount IS '`money_in` in major units; null where the currency is not known.';
COMMENT ON COLUMN transaction_monthly.money_out_amount IS '`money_out` in major units, likewise.';
COMMENT ON COLUMN transaction_monthly.net_amount IS '`net` in major units, likewise.';
