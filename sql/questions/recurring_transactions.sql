-- Which payments come again and again: how often, how much, and when the next is expected.
-- Grain: one row per account, currency, direction and description that came three times or more at a steady pace: no
--   interval is further from the typical (median) one than a fifth of it, or two days where that is more. Descriptions
--   are compared in lower case and without digits and signs, so that a number of a payment does not set it apart; one
--   without a letter names nobody and is left out. So is a payee that came less than six times with amounts that lie further
--   apart than half of the typical one: dates that fit by chance make no income.
-- Units: days; minor units of the currency, and `…_amount` in its major unit. Void transactions and amounts of zero are left out.
-- Example: SELECT description, typical_amount, next_expected_on FROM recurring_transactions WHERE next_expected_on > today();
CREATE VIEW recurring_transactions AS
WITH payments AS (
    SELECT
        stripe_account,
        account_id,
        currency,
        amount > 0 AS is_income,
        lake.payee(description) AS payee,
        description,
        amount,
        make_timestamp(epoch_us(transacted_at))::DATE AS day,
        transacted_at
    FROM transactions
    WHERE status <> 'void' AND amount <> 0
),
-- One pass over all: the days of a payee in a list, from which what lies between two of them is reckoned. To number all payments
-- by windows takes twice as long, and to find the middle of all of them ten times the memory.
payees AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        currency,
        is_income,
        payee,
        max_by(description, transacted_at) AS description,
        count(*) AS occurrences,
        list(day) FILTER (day IS NOT NULL) AS days,
        list(amount) AS amounts,
        max_by(amount, transacted_at) AS last,
        min(amount) AS lowest,
        max(amount) AS highest
    FROM payments
    GROUP BY stripe_account, account_id, currency, is_income, payee
    -- Counted, for of a condition on the payee DuckDB would tell it twice for each row.
    HAVING count(*) FILTER (payee <> '') >= 3 AND max(day) > min(day)
        AND (count(*) >= 6 OR lake.lie_within(min(amount), max(amount), greatest(abs(min(amount)::HUGEINT), abs(max(amount)::HUGEINT)), 5))
),
sorted AS NOT MATERIALIZED (
    SELECT * EXCLUDE (days, amounts), list_sort(days) AS on_days, list_sort(amounts)[(len(amounts) + 1) // 2] AS typical
    FROM payees
),
spaced AS NOT MATERIALIZED (
    SELECT *, list_sort([
        (pair[2] - pair[1])::BIGINT FOR pair IN list_zip(on_days[:len(on_days) - 1], on_days[2:])
    ]) AS spaces FROM sorted
),
recurring AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        currency,
        is_income,
        description,
        occurrences,
        spaces[(len(spaces) + 1) // 2] AS period_days,
        typical,
        last,
        lowest,
        highest,
        major_units(typical, currency) AS typical_amount,
        major_units(last, currency) AS last_amount,
        major_units(lowest, currency) AS lowest_amount,
        major_units(highest, currency) AS highest_amount,
        greatest(spaces[-1] - period_days, period_days - spaces[1]) AS interval_spread_days,
        lake.amount_spread(lowest, highest, typical) AS amount_spread,
        lake.confidence(occurrences, lowest, highest, typical) AS confidence,
        on_days[1] AS first_on,
        on_days[-1] AS last_on,
        last_on + period_days::INTEGER AS next_expected_on
    FROM spaced
    WHERE period_days > 0
        AND interval_spread_days <= greatest(2, period_days // 5)
        AND (occurrences >= 6 OR lake.lie_within(lowest, highest, typical, 5))
)
SELECT stripe_account, account_id, a.account_holder_id, recurring.* EXCLUDE (stripe_account, account_id)
FROM recurring
LEFT JOIN accounts AS a USING (stripe_account, account_id);

COMMENT ON VIEW recurring_transactions IS 'One row per account, currency, direction and payee that came three times or more at a steady pace.';
COMMENT ON COLUMN recurring_transactions.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN recurring_transactions.account_id IS 'The account.';
COMMENT ON COLUMN recurring_transactions.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN recurring_transactions.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN recurring_transactions.is_income IS 'True for money to the account holder.';
COMMENT ON COLUMN recurring_transactions.description IS 'The institution''s text on the last one.';
COMMENT ON COLUMN recurring_transactions.occurrences IS 'How many are known, pending ones included.';
COMMENT ON COLUMN recurring_transactions.period_days IS 'Typical (median) number of days between two.';
COMMENT ON COLUMN recurring_transactions.typical IS 'Typical (median) amount, in minor units.';
COMMENT ON COLUMN recurring_transactions.last IS 'Amount of the last one, in minor units.';
COMMENT ON COLUMN recurring_transactions.lowest IS 'Lowest amount, in minor units.';
COMMENT ON COLUMN recurring_transactions.highest IS 'Highest amount, in minor units.';
COMMENT ON COLUMN recurring_transactions.typical_amount IS '`typical` in major units.';
COMMENT ON COLUMN recurring_transactions.last_amount IS '`last` in major units.';
COMMENT ON COLUMN recurring_transactions.lowest_amount IS '`lowest` in major units.';
COMMENT ON COLUMN recurring_transactions.highest_amount IS '`highest` in major units.';
COMMENT ON COLUMN recurring_transactions.interval_spread_days IS 'How many days the interval furthest from the typical one is off it.';
COMMENT ON COLUMN recurring_transactions.amount_spread IS 'Highest less lowest amount, as a share of the typical one; 0 = always the same.';
COMMENT ON COLUMN recurring_transactions.confidence IS '`high` = six times or more, amounts within a tenth; `medium` = four times within a tenth, or six within a half; else `low`.';
COMMENT ON COLUMN recurring_transactions.first_on IS 'Day (UTC) of the first one known.';
COMMENT ON COLUMN recurring_transactions.last_on IS 'Day (UTC) of the last one.';
COMMENT ON COLUMN recurring_transactions.next_expected_on IS 'Day on which the next is expected: the last and one period. A day in the past = it is late, or came to an end.';
