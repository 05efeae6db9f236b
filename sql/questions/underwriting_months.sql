-- What came in and went out month by month, as a lender counts: without transfers between the holder's own accounts.
-- Grain: one row per account, currency and month (UTC) from the first transaction known to the last day of which transactions were read,
--   also where nothing was posted; `underwriting_holder_months` per holder, over all accounts. `underwriting_months_as_of(ts)` knows what was
--   known at ts. What each transaction counts as: `classified_transactions`; each figure is defined in docs/underwriting.md.
-- Units: minor units of the currency; what goes out is negative or zero. `coverage` between 0 and 1: days of the month that were observed.
-- Example: SELECT month, money_in, money_out, net FROM underwriting_months WHERE account_id = 'fca_…' AND coverage = 1 ORDER BY month;
CREATE MACRO lake.account_months_at(ts) AS TABLE
WITH told AS NOT MATERIALIZED (
    SELECT
        *,
        date_trunc('month', day)::DATE AS month,
        CASE WHEN kind IN ('own_transfer', 'unsure') THEN kind ELSE 'flow' END AS counted_as
    FROM classified_transactions_as_of(ts)
),
sums AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        account_holder_id,
        currency,
        month,
        count(*) AS transactions,
        min(day) AS first_day,
        max(day) AS last_day,
        coalesce(sum(amount) FILTER (amount > 0 AND counted_as = 'flow'), 0)::DECIMAL(38, 0) AS money_in,
        coalesce(sum(amount) FILTER (amount < 0 AND counted_as = 'flow'), 0)::DECIMAL(38, 0) AS money_out,
        coalesce(sum(amount) FILTER (amount > 0 AND kind = 'own_transfer'), 0)::DECIMAL(38, 0) AS transfers_in,
        coalesce(sum(amount) FILTER (amount < 0 AND kind = 'own_transfer'), 0)::DECIMAL(38, 0) AS transfers_out,
        coalesce(sum(amount) FILTER (amount > 0 AND kind = 'unsure'), 0)::DECIMAL(38, 0) AS unsure_in,
        coalesce(sum(amount) FILTER (amount < 0 AND kind = 'unsure'), 0)::DECIMAL(38, 0) AS unsure_out,
        coalesce(sum(amount) FILTER (kind IN ('overdraft_fee', 'returned_fee')), 0)::DECIMAL(38, 0) AS fees,
        coalesce(sum(-sign(amount)) FILTER (kind = 'overdraft_fee'), 0)::BIGINT AS overdraft_fees,
        coalesce(sum(-sign(amount)) FILTER (kind = 'returned_fee'), 0)::BIGINT AS returned_fees,
        coalesce(sum(amount) FILTER (kind = 'loan_payment'), 0)::DECIMAL(38, 0) AS loan_payments
    FROM told
    GROUP BY stripe_account, account_id, account_holder_id, currency, month
),
spans AS NOT MATERIALIZED (
    SELECT
        *,
        first_value(first_day) OVER by_month AS observed_from,
        -- The day of the last read is not over: the one before it is the last observed whole.
        CASE
            WHEN r.read_on IS NULL THEN last_value(last_day) OVER by_month
            ELSE least(r.read_on, lake.utc_day(least(lake.utc(ts), now()))) - 1
        END AS observed_to,
        lead(month) OVER by_month AS next_month
    FROM sums
    LEFT JOIN (
        SELECT stripe_account, account_id, lake.utc_day(max(last_attempted_at)) AS read_on
        FROM lake.watermarks
        WHERE observed_at <= lake.utc(ts) AND feature = 'transaction' AND status = 'succeeded' AND refused_at IS NULL
        GROUP BY stripe_account, account_id
    ) AS r USING (stripe_account, account_id)
    WINDOW by_month AS (
        PARTITION BY stripe_account, account_id, account_holder_id, currency ORDER BY month
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
),
filled AS NOT MATERIALIZED (
    SELECT
        * EXCLUDE (month),
        month AS from_month,
        unnest(generate_series(
            month,
            coalesce(next_month - INTERVAL 1 MONTH, greatest(month, date_trunc('month', observed_to))),
            INTERVAL 1 MONTH
        ))::DATE AS month
    FROM spans
)
SELECT
    stripe_account,
    account_id,
    account_holder_id,
    currency,
    month,
    day(last_day(month)) AS days_in_month,
    greatest(least(last_day(month), observed_to) - greatest(month, observed_from) + 1, 0)::BIGINT AS days_observed,
    month = date_trunc('month', observed_from)::DATE AS is_first,
    COLUMNS([
        'transactions', 'money_in', 'money_out', 'transfers_in', 'transfers_out', 'unsure_in', 'unsure_out', 'fees',
        'overdraft_fees', 'returned_fees', 'loan_payments'
    ]) * (month = from_month)::INTEGER
FROM filled;

CREATE MACRO lake.months_at(ts, by_holder) AS TABLE
WITH by_subject AS NOT MATERIALIZED (
    -- Of the parts of this union the one is not planned that is not asked for. A month of an account is one row as it is.
    SELECT * EXCLUDE (account_id, is_first), account_id AS subject, 1::BIGINT AS accounts
    FROM lake.account_months_at(ts)
    WHERE NOT by_holder
    UNION ALL BY NAME
    SELECT
        stripe_account,
        account_holder_id,
        currency,
        month,
        any_value(days_in_month) AS days_in_month,
        -- An account that has begun and has no such month is not read any more: of its holder no day is known whole.
        CASE
            WHEN count(*) < sum(count(*) FILTER (is_first)) OVER (
                PARTITION BY stripe_account, account_holder_id, currency ORDER BY month
            ) THEN 0
            ELSE min(days_observed)
        END AS days_observed,
        count(*) AS accounts,
        sum(transactions)::BIGINT AS transactions,
        sum(money_in)::DECIMAL(38, 0) AS money_in,
        sum(money_out)::DECIMAL(38, 0) AS money_out,
        sum(transfers_in)::DECIMAL(38, 0) AS transfers_in,
        sum(transfers_out)::DECIMAL(38, 0) AS transfers_out,
        sum(unsure_in)::DECIMAL(38, 0) AS unsure_in,
        sum(unsure_out)::DECIMAL(38, 0) AS unsure_out,
        sum(fees)::DECIMAL(38, 0) AS fees,
        sum(overdraft_fees)::BIGINT AS overdraft_fees,
        sum(returned_fees)::BIGINT AS returned_fees,
        sum(loan_payments)::DECIMAL(38, 0) AS loan_payments
    FROM lake.account_months_at(ts)
    WHERE by_holder AND account_holder_id IS NOT NULL
    GROUP BY stripe_account, account_holder_id, currency, month
)
SELECT
    stripe_account,
    subject AS account_id,
    account_holder_id,
    currency,
    month,
    accounts,
    days_in_month,
    days_observed,
    (lake.rounded_quotient(10000 * days_observed, days_in_month)::DECIMAL(9, 0) * 0.0001::DECIMAL(5, 4))::DECIMAL(9, 4) AS coverage,
    transactions,
    money_in,
    money_out,
    (money_in + money_out)::DECIMAL(38, 0) AS net,
    major_units(money_in, currency) AS money_in_amount,
    major_units(money_out, currency) AS money_out_amount,
    major_units(net, currency) AS net_amount,
    transfers_in,
    transfers_out,
    unsure_in,
    unsure_out,
    fees,
    overdraft_fees,
    returned_fees,
    loan_payments,
    major_units(transfers_in, currency) AS transfers_in_amount,
    major_units(transfers_out, currency) AS transfers_out_amount,
    major_units(unsure_in, currency) AS unsure_in_amount,
    major_units(unsure_out, currency) AS unsure_out_amount,
    major_units(fees, currency) AS fees_amount,
    major_units(loan_payments, currency) AS loan_payments_amount
FROM by_subject;

CREATE MACRO underwriting_months_as_of(ts) AS TABLE
SELECT * EXCLUDE (accounts) FROM lake.months_at(ts, false);

CREATE MACRO underwriting_holder_months_as_of(ts) AS TABLE
SELECT * EXCLUDE (account_id) FROM lake.months_at(ts, true);

CREATE VIEW underwriting_months AS FROM underwriting_months_as_of('infinity');
CREATE VIEW underwriting_holder_months AS FROM underwriting_holder_months_as_of('infinity');

COMMENT ON MACRO TABLE lake.account_months_at IS 'The months of each account.';
COMMENT ON MACRO TABLE lake.months_at IS 'The figures of underwriting_months, or of underwriting_holder_months.';
COMMENT ON MACRO TABLE underwriting_months_as_of IS 'As the view underwriting_months, by what was known at ts; a date or a time without a zone is UTC.';
COMMENT ON VIEW underwriting_months IS 'One row per account, currency and month (UTC): money in, out and net without transfers between own accounts, fees, loan payments, and how much of the month was observed.';
COMMENT ON COLUMN underwriting_months.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN underwriting_months.account_id IS 'The account.';
COMMENT ON COLUMN underwriting_months.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN underwriting_months.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN underwriting_months.month IS 'The first day of the month, in UTC, by when transactions were posted.';
COMMENT ON COLUMN underwriting_months.days_in_month IS 'How many days it has.';
COMMENT ON COLUMN underwriting_months.days_observed IS 'Of these, days between the first transaction known and the last day of which they were read.';
COMMENT ON COLUMN underwriting_months.coverage IS '`days_observed` as a share of the month.';
COMMENT ON COLUMN underwriting_months.transactions IS 'How many were posted.';
COMMENT ON COLUMN underwriting_months.money_in IS 'Sum of those to the holder, without transfers between own accounts and what may be such.';
COMMENT ON COLUMN underwriting_months.money_out IS 'Sum of those from the holder, likewise; negative or zero.';
COMMENT ON COLUMN underwriting_months.net IS '`money_in` and `money_out` together.';
COMMENT ON COLUMN underwriting_months.money_in_amount IS '`money_in` in major units.';
COMMENT ON COLUMN underwriting_months.money_out_amount IS '`money_out` in major units.';
COMMENT ON COLUMN underwriting_months.net_amount IS '`net` in major units.';
COMMENT ON COLUMN underwriting_months.transfers_in IS 'From the holder''s other linked accounts.';
COMMENT ON COLUMN underwriting_months.transfers_out IS 'To these; negative or zero.';
COMMENT ON COLUMN underwriting_months.unsure_in IS 'What came and may be such a transfer.';
COMMENT ON COLUMN underwriting_months.unsure_out IS 'What went and may be such; negative or zero.';
COMMENT ON COLUMN underwriting_months.fees IS 'Fees for overdrafts and returned payments, less what was given back; part of the sums above.';
COMMENT ON COLUMN underwriting_months.overdraft_fees IS 'How many fees for overdrafts, less those given back.';
COMMENT ON COLUMN underwriting_months.returned_fees IS 'How many fees for returned payments, less those given back.';
COMMENT ON COLUMN underwriting_months.loan_payments IS 'Payments of loans, part of `money_out`; negative or zero.';
COMMENT ON COLUMN underwriting_months.transfers_in_amount IS '`transfers_in` in major units.';
COMMENT ON COLUMN underwriting_months.transfers_out_amount IS '`transfers_out` in major units.';
COMMENT ON COLUMN underwriting_months.unsure_in_amount IS '`unsure_in` in major units.';
COMMENT ON COLUMN underwriting_months.unsure_out_amount IS '`unsure_out` in major units.';
COMMENT ON COLUMN underwriting_months.fees_amount IS '`fees` in major units.';
COMMENT ON COLUMN underwriting_months.loan_payments_amount IS '`loan_payments` in major units.';
COMMENT ON MACRO TABLE underwriting_holder_months_as_of IS 'As the view underwriting_holder_months, by what was known at ts; a date or a time without a zone is UTC.';
COMMENT ON VIEW underwriting_holder_months IS 'One row per holder, currency and month (UTC): money in, out and net without transfers between own accounts, fees, loan payments, and how much of the month was observed.';
COMMENT ON COLUMN underwriting_holder_months.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN underwriting_holder_months.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN underwriting_holder_months.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN underwriting_holder_months.month IS 'The first day of the month, in UTC, by when transactions were posted.';
COMMENT ON COLUMN underwriting_holder_months.accounts IS 'Accounts of the holder with a row in this month.';
COMMENT ON COLUMN underwriting_holder_months.days_in_month IS 'How many days it has.';
COMMENT ON COLUMN underwriting_holder_months.days_observed IS 'Of these, those of the account of which least was observed, of all that had begun by then; 0 = one of them is not read any more.';
COMMENT ON COLUMN underwriting_holder_months.coverage IS '`days_observed` as a share of the month.';
COMMENT ON COLUMN underwriting_holder_months.transactions IS 'How many were posted.';
COMMENT ON COLUMN underwriting_holder_months.money_in IS 'Sum of those to the holder, without transfers between own accounts and what may be such.';
COMMENT ON COLUMN underwriting_holder_months.money_out IS 'Sum of those from the holder, likewise; negative or zero.';
COMMENT ON COLUMN underwriting_holder_months.net IS '`money_in` and `money_out` together.';
COMMENT ON COLUMN underwriting_holder_months.money_in_amount IS '`money_in` in major units.';
COMMENT ON COLUMN underwriting_holder_months.money_out_amount IS '`money_out` in major units.';
COMMENT ON COLUMN underwriting_holder_months.net_amount IS '`net` in major units.';
COMMENT ON COLUMN underwriting_holder_months.transfers_in IS 'From the holder''s other linked accounts.';
COMMENT ON COLUMN underwriting_holder_months.transfers_out IS 'To these; negative or zero.';
COMMENT ON COLUMN underwriting_holder_months.unsure_in IS 'What came and may be such a transfer.';
COMMENT ON COLUMN underwriting_holder_months.unsure_out IS 'What went and may be such; negative or zero.';
COMMENT ON COLUMN underwriting_holder_months.fees IS 'Fees for overdrafts and returned payments, less what was given back; part of the sums above.';
COMMENT ON COLUMN underwriting_holder_months.overdraft_fees IS 'How many fees for overdrafts, less those given back.';
COMMENT ON COLUMN underwriting_holder_months.returned_fees IS 'How many fees for returned payments, less those given back.';
COMMENT ON COLUMN underwriting_holder_months.loan_payments IS 'Payments of loans, part of `money_out`; negative or zero.';
COMMENT ON COLUMN underwriting_holder_months.transfers_in_amount IS '`transfers_in` in major units.';
COMMENT ON COLUMN underwriting_holder_months.transfers_out_amount IS '`transfers_out` in major units.';
COMMENT ON COLUMN underwriting_holder_months.unsure_in_amount IS '`unsure_in` in major units.';
COMMENT ON COLUMN underwriting_holder_months.unsure_out_amount IS '`unsure_out` in major units.';
COMMENT ON COLUMN underwriting_holder_months.fees_amount IS '`fees` in major units.';
COMMENT ON COLUMN underwriting_holder_months.loan_payments_amount IS '`loan_payments` in major units.';
