-- What a lender reads first of an account: months of history, what usually comes in and goes out and how much that moves, who pays most.
-- Grain: one row per account and currency with transactions; `underwriting_holder_summary` per holder, over all accounts. Averages are over months that
--   were observed whole, and null where there is none; the largest payer over the 90 days before the day asked for.
--   `underwriting_summary_as_of(ts)` knows what was known at ts. Each figure is defined in docs/underwriting.md.
-- Units: minor units of the currency, averages rounded to such, and `…_amount` in major ones; shares between 0 and 1.
-- Example: SELECT account_id, average_net_amount, net_volatility_amount, whole_months FROM underwriting_summary WHERE currency = 'usd';
CREATE MACRO lake.summary_at(ts, by_holder) AS TABLE
WITH months AS NOT MATERIALIZED (
    SELECT
        *,
        days_observed = days_in_month AS is_whole,
        count(*) FILTER (days_observed = days_in_month) OVER one AS n,
        sum(money_in) FILTER (days_observed = days_in_month) OVER one AS total_in,
        sum(money_out) FILTER (days_observed = days_in_month) OVER one AS total_out,
        sum(net) FILTER (days_observed = days_in_month) OVER one AS total_net
    FROM lake.months_at(ts, by_holder)
    WINDOW one AS (PARTITION BY stripe_account, account_id, account_holder_id, currency)
),
payers AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        CASE WHEN NOT by_holder THEN account_id END AS account_id,
        account_holder_id,
        currency,
        payee,
        sum(amount) AS paid
    FROM classified_transactions_as_of(ts)
    WHERE kind = 'money_in'
        AND day >= lake.utc_day(least(lake.utc(ts), now())) - 90
        AND day < lake.utc_day(least(lake.utc(ts), now()))
        AND (NOT by_holder OR account_holder_id IS NOT NULL)
    GROUP BY ALL
),
-- Side by side, and not joined, so that who asks for one account or holder reads their rows alone of both.
told AS NOT MATERIALIZED (
    FROM months
    UNION ALL BY NAME
    FROM payers
),
summed AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        account_holder_id,
        currency,
        min(month) AS first_month,
        any_value(n) AS whole_months,
        sum(days_observed)::BIGINT AS days_observed,
        CASE WHEN whole_months > 0 THEN lake.rounded_quotient(any_value(total_in)::HUGEINT, whole_months) END AS average_in,
        CASE WHEN whole_months > 0 THEN lake.rounded_quotient(any_value(total_out)::HUGEINT, whole_months) END AS average_out,
        CASE WHEN whole_months > 0 THEN lake.rounded_quotient(any_value(total_net)::HUGEINT, whole_months) END AS average_net,
        CASE WHEN whole_months > 1 THEN lake.rounded_quotient(
            sum(abs(n * money_in::HUGEINT - total_in::HUGEINT)) FILTER (is_whole), whole_months * whole_months
        ) END AS in_volatility,
        CASE WHEN whole_months > 1 THEN lake.rounded_quotient(
            sum(abs(n * net::HUGEINT - total_net::HUGEINT)) FILTER (is_whole), whole_months * whole_months
        ) END AS net_volatility,
        max_by(payee, (paid, payee)) FILTER (payee <> '') AS largest_payer,
        (lake.rounded_quotient(
            10000 * max(paid) FILTER (payee <> ''), sum(paid)::HUGEINT
        )::DECIMAL(9, 0) * 0.0001::DECIMAL(5, 4))::DECIMAL(9, 4) AS largest_payer_share
    FROM told
    GROUP BY stripe_account, account_id, account_holder_id, currency
)
SELECT
    stripe_account,
    account_id,
    account_holder_id,
    currency,
    first_month,
    whole_months,
    days_observed,
    average_in::DECIMAL(38, 0) AS average_in,
    average_out::DECIMAL(38, 0) AS average_out,
    average_net::DECIMAL(38, 0) AS average_net,
    in_volatility::DECIMAL(38, 0) AS in_volatility,
    net_volatility::DECIMAL(38, 0) AS net_volatility,
    major_units(average_in::DECIMAL(38, 0), currency) AS average_in_amount,
    major_units(average_out::DECIMAL(38, 0), currency) AS average_out_amount,
    major_units(average_net::DECIMAL(38, 0), currency) AS average_net_amount,
    major_units(in_volatility::DECIMAL(38, 0), currency) AS in_volatility_amount,
    major_units(net_volatility::DECIMAL(38, 0), currency) AS net_volatility_amount,
    largest_payer,
    largest_payer_share
FROM summed;

CREATE MACRO underwriting_summary_as_of(ts) AS TABLE
FROM lake.summary_at(ts, false);

CREATE MACRO underwriting_holder_summary_as_of(ts) AS TABLE
SELECT * EXCLUDE (account_id) FROM lake.summary_at(ts, true);

CREATE VIEW underwriting_summary AS FROM underwriting_summary_as_of('infinity');
CREATE VIEW underwriting_holder_summary AS FROM underwriting_holder_summary_as_of('infinity');

COMMENT ON MACRO TABLE lake.summary_at IS 'The figures of underwriting_summary, or of underwriting_holder_summary.';
COMMENT ON MACRO TABLE underwriting_summary_as_of IS 'As the view underwriting_summary, by what was known at ts; a date or a time without a zone is UTC.';
COMMENT ON VIEW underwriting_summary IS 'One row per account and currency: months of history, average in, out and net of whole months and how much they move, the largest payer.';
COMMENT ON COLUMN underwriting_summary.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN underwriting_summary.account_id IS 'The account.';
COMMENT ON COLUMN underwriting_summary.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN underwriting_summary.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN underwriting_summary.first_month IS 'The first month with a transaction (UTC).';
COMMENT ON COLUMN underwriting_summary.whole_months IS 'Months that were observed from first to last day.';
COMMENT ON COLUMN underwriting_summary.days_observed IS 'Days observed in all months.';
COMMENT ON COLUMN underwriting_summary.average_in IS 'Mean `money_in` of a whole month; null = there is none.';
COMMENT ON COLUMN underwriting_summary.average_out IS 'Mean `money_out` of a whole month; negative or zero.';
COMMENT ON COLUMN underwriting_summary.average_net IS 'Mean `net` of a whole month.';
COMMENT ON COLUMN underwriting_summary.in_volatility IS 'Mean distance of a whole month''s `money_in` from its mean; null = fewer than two.';
COMMENT ON COLUMN underwriting_summary.net_volatility IS 'Mean distance of a whole month''s `net` from its mean; null = fewer than two.';
COMMENT ON COLUMN underwriting_summary.average_in_amount IS '`average_in` in major units.';
COMMENT ON COLUMN underwriting_summary.average_out_amount IS '`average_out` in major units.';
COMMENT ON COLUMN underwriting_summary.average_net_amount IS '`average_net` in major units.';
COMMENT ON COLUMN underwriting_summary.in_volatility_amount IS '`in_volatility` in major units.';
COMMENT ON COLUMN underwriting_summary.net_volatility_amount IS '`net_volatility` in major units.';
COMMENT ON COLUMN underwriting_summary.largest_payer IS 'Who paid most in the last 90 days, by `payee`; null = nobody with a name.';
COMMENT ON COLUMN underwriting_summary.largest_payer_share IS 'Their share of all money in in these days; null = there was none.';
COMMENT ON MACRO TABLE underwriting_holder_summary_as_of IS 'As the view underwriting_holder_summary, by what was known at ts; a date or a time without a zone is UTC.';
COMMENT ON VIEW underwriting_holder_summary IS 'One row per holder and currency: months of history, average in, out and net of whole months and how much they move, the largest payer.';
COMMENT ON COLUMN underwriting_holder_summary.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN underwriting_holder_summary.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN underwriting_holder_summary.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN underwriting_holder_summary.first_month IS 'The first month with a transaction (UTC).';
COMMENT ON COLUMN underwriting_holder_summary.whole_months IS 'Months that were observed from first to last day.';
COMMENT ON COLUMN underwriting_holder_summary.days_observed IS 'Days observed in all months.';
COMMENT ON COLUMN underwriting_holder_summary.average_in IS 'Mean `money_in` of a whole month; null = there is none.';
COMMENT ON COLUMN underwriting_holder_summary.average_out IS 'Mean `money_out` of a whole month; negative or zero.';
COMMENT ON COLUMN underwriting_holder_summary.average_net IS 'Mean `net` of a whole month.';
COMMENT ON COLUMN underwriting_holder_summary.in_volatility IS 'Mean distance of a whole month''s `money_in` from its mean; null = fewer than two.';
COMMENT ON COLUMN underwriting_holder_summary.net_volatility IS 'Mean distance of a whole month''s `net` from its mean; null = fewer than two.';
COMMENT ON COLUMN underwriting_holder_summary.average_in_amount IS '`average_in` in major units.';
COMMENT ON COLUMN underwriting_holder_summary.average_out_amount IS '`average_out` in major units.';
COMMENT ON COLUMN underwriting_holder_summary.average_net_amount IS '`average_net` in major units.';
COMMENT ON COLUMN underwriting_holder_summary.in_volatility_amount IS '`in_volatility` in major units.';
COMMENT ON COLUMN underwriting_holder_summary.net_volatility_amount IS '`net_volatility` in major units.';
COMMENT ON COLUMN underwriting_holder_summary.largest_payer IS 'Who paid most in the last 90 days, by `payee`; null = nobody with a name.';
COMMENT ON COLUMN underwriting_holder_summary.largest_payer_share IS 'Their share of all money in in these days; null = there was none.';
