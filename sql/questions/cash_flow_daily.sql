-- What came in and went out each day, and what that adds up to since the first transaction known.
-- Grain: one row per account, currency and day (UTC) on which something was posted. `cash_flow_daily(true)` has also the days
--   between them, with zeros: ask it of one account, or of few. What was posted at a time that is not known is left out.
-- Units: minor units of the currency, and `…_amount` in its major unit. `money_out` is negative or zero.
-- Example: SELECT day, net_amount, running_net_amount FROM cash_flow_daily WHERE account_id = 'fca_…' ORDER BY day;
CREATE MACRO cash_flow_daily(every_day) AS TABLE
-- Added up where all are sorted by day, and not grouped before: the first rows come once they are sorted.
WITH posted AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        currency,
        make_timestamp(epoch_us(posted_at))::DATE AS from_day,
        count(*) OVER of_day AS transactions,
        coalesce(sum(amount) FILTER (amount > 0) OVER of_day, 0)::DECIMAL(38, 0) AS money_in,
        coalesce(sum(amount) FILTER (amount < 0) OVER of_day, 0)::DECIMAL(38, 0) AS money_out,
        coalesce(sum(amount) OVER so_far, 0)::DECIMAL(38, 0) AS running_net
    FROM transactions
    WHERE status = 'posted' AND posted_at IS NOT NULL
    WINDOW
        so_far AS (PARTITION BY stripe_account, account_id, currency ORDER BY from_day),
        of_day AS (
            PARTITION BY stripe_account, account_id, currency ORDER BY from_day
            RANGE BETWEEN CURRENT ROW AND CURRENT ROW
        )
    QUALIFY lag(from_day) OVER so_far IS DISTINCT FROM from_day
),
running AS NOT MATERIALIZED (
    SELECT
        *,
        CASE WHEN every_day THEN coalesce(lead(from_day) OVER so_far - 1, from_day) ELSE from_day END AS to_day
    FROM posted
    WINDOW so_far AS (PARTITION BY stripe_account, account_id, currency ORDER BY from_day)
),
days AS NOT MATERIALIZED (
    SELECT *, unnest(generate_series(from_day, to_day, INTERVAL 1 DAY))::DATE AS day FROM running
),
flows AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        currency,
        day,
        CASE WHEN day = from_day THEN transactions ELSE 0 END AS transactions,
        CASE WHEN day = from_day THEN money_in ELSE 0 END::DECIMAL(38, 0) AS money_in,
        CASE WHEN day = from_day THEN money_out ELSE 0 END::DECIMAL(38, 0) AS money_out,
        running_net
    FROM days
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    f.currency,
    f.day,
    f.transactions,
    f.money_in,
    f.money_out,
    (f.money_in + f.money_out)::DECIMAL(38, 0) AS net,
    f.running_net,
    major_units(money_in, currency) AS money_in_amount,
    major_units(money_out, currency) AS money_out_amount,
    major_units(net, currency) AS net_amount,
    major_units(running_net, currency) AS running_net_amount
FROM flows AS f
LEFT JOIN accounts AS a USING (stripe_account, account_id);

CREATE VIEW cash_flow_daily AS FROM cash_flow_daily(false);

COMMENT ON MACRO TABLE cash_flow_daily IS 'As the view of the same name; with `true`, also the days between two on which nothing was posted, with zeros.';
COMMENT ON VIEW cash_flow_daily IS 'One row per account, currency and day (UTC) on which something was posted: in, out, net, and net so far.';
COMMENT ON COLUMN cash_flow_daily.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN cash_flow_daily.account_id IS 'The account.';
COMMENT ON COLUMN cash_flow_daily.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN cash_flow_daily.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN cash_flow_daily.day IS 'The day, in UTC, by when transactions were posted.';
COMMENT ON COLUMN cash_flow_daily.transactions IS 'How many were posted; 0 on a day without any, which `cash_flow_daily(true)` alone has.';
COMMENT ON COLUMN cash_flow_daily.money_in IS 'Sum of those to the account holder, in minor units.';
COMMENT ON COLUMN cash_flow_daily.money_out IS 'Sum of those from the account holder, in minor units; negative or zero.';
COMMENT ON COLUMN cash_flow_daily.net IS '`money_in` and `money_out` together, in minor units.';
COMMENT ON COLUMN cash_flow_daily.running_net IS 'Sum of `net` from the first day to this one, in minor units.';
COMMENT ON COLUMN cash_flow_daily.money_in_amount IS '`money_in` in major units; null where the currency is not known.';
COMMENT ON COLUMN cash_flow_daily.money_out_amount IS '`money_out` in major units, likewise.';
COMMENT ON COLUMN cash_flow_daily.net_amount IS '`net` in major units, likewise.';
COMMENT ON COLUMN cash_flow_daily.running_net_amount IS '`running_net` in major units, likewise.';
