-- What came in and went out each day, and what that adds up to since the first transaction known.
-- Grain: one row per account, currency and day (UTC), from its first posted transaction known to its last; a day on which
--   nothing was posted has zeros. What was posted at a time that is not known is left out.
-- Units: minor units of the currency, and `…_amount` in its major unit. `money_out` is negative or zero.
-- Example: SELECT day, net_amount, running_net_amount FROM cash_flow_daily WHERE account_id = 'fca_…' ORDER BY day;
CREATE VIEW cash_flow_daily AS
WITH posted AS (
    SELECT
        stripe_account,
        account_id,
        currency,
        make_timestamp(epoch_us(posted_at))::DATE AS day,
        count(*) AS transactions,
        sum(amount) FILTER (amount > 0) AS money_in,
        sum(amount) FILTER (amount < 0) AS money_out
    FROM transactions
    WHERE status = 'posted'
    GROUP BY stripe_account, account_id, currency, day
),
days AS (
    SELECT stripe_account, account_id, currency, unnest(generate_series(min(day), max(day), INTERVAL 1 DAY))::DATE AS day
    FROM posted
    GROUP BY stripe_account, account_id, currency
),
filled AS (
    SELECT
        stripe_account,
        account_id,
        currency,
        day,
        coalesce(p.transactions, 0) AS transactions,
        coalesce(p.money_in, 0)::HUGEINT AS money_in,
        coalesce(p.money_out, 0)::HUGEINT AS money_out
    FROM days
    LEFT JOIN posted AS p USING (stripe_account, account_id, currency, day)
)
SELECT
    *,
    money_in + money_out AS net,
    (sum(money_in + money_out) OVER (PARTITION BY stripe_account, account_id, currency ORDER BY day))::HUGEINT AS running_net,
    major_units(money_in, currency) AS money_in_amount,
    major_units(money_out, currency) AS money_out_amount,
    major_units(net, currency) AS net_amount,
    major_units(running_net, currency) AS running_net_amount
FROM filled;

COMMENT ON VIEW cash_flow_daily IS 'One row per account, currency and day (UTC) between its first and last posted transaction: in, out, net, and net so far.';
COMMENT ON COLUMN cash_flow_daily.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN cash_flow_daily.account_id IS 'The account.';
COMMENT ON COLUMN cash_flow_daily.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN cash_flow_daily.day IS 'The day, in UTC, by when transactions were posted.';
COMMENT ON COLUMN cash_flow_daily.transactions IS 'How many were posted; 0 on a day without any.';
COMMENT ON COLUMN cash_flow_daily.money_in IS 'Sum of those to the account holder, in minor units.';
COMMENT ON COLUMN cash_flow_daily.money_out IS 'Sum of those from the account holder, in minor units; negative or zero.';
COMMENT ON COLUMN cash_flow_daily.net IS '`money_in` and `money_out` together, in minor units.';
COMMENT ON COLUMN cash_flow_daily.running_net IS 'Sum of `net` from the first day to this one, in minor units.';
COMMENT ON COLUMN cash_flow_daily.money_in_amount IS '`money_in` in major units; null where the currency is not known.';
COMMENT ON COLUMN cash_flow_daily.money_out_amount IS '`money_out` in major units, likewise.';
COMMENT ON COLUMN cash_flow_daily.net_amount IS '`net` in major units, likewise.';
COMMENT ON COLUMN cash_flow_daily.running_net_amount IS '`running_net` in major units, likewise.';
