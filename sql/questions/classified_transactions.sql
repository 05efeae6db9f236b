-- What each posted transaction is: a transfer between the holder's own accounts, a fee, the payment of a loan, or money in or out.
-- Grain: one row per posted transaction with a time. A transfer is told by its counterpart: the same amount the other way, in the same
--   currency, on another linked account of the holder, within five days. Equal amounts are taken together while no more than five days
--   lie between them, and paired in the order of time where as many came as went; where not, what may be one is `unsure`, and counted
--   neither as transfer nor as money in or out. So transfers of a holder add up to zero, always. Fees and loans are known by
--   `payment_patterns`. `classified_transactions_as_of(ts)` knows what was known at ts.
-- Units: minor units of the currency, and `major_amount` in its major unit. Ask by `account_holder_id`, or by `account_id`.
-- Example: SELECT posted_at, description, amount FROM classified_transactions WHERE account_holder_id = 'cus_…' AND kind = 'own_transfer';
CREATE MACRO lake.posted_as_of(ts) AS TABLE
SELECT
    t.stripe_account,
    t.account_id,
    t.account_holder_id,
    t.transaction_id,
    t.currency,
    t.amount,
    abs(t.amount::HUGEINT) AS size,
    t.amount > 0 AS is_in,
    t.posted_at,
    lake.utc_day(t.posted_at) AS day,
    t.description,
    -- After the join, so that who asks for a holder has their descriptions looked through alone.
    lake.payee(t.description) AS payee,
    lake.payment_kind(t.description) AS payment_kind
FROM (
    -- What is known now stands in a snapshot.
    SELECT t.*, a.account_holder_id
    FROM (FROM transactions WHERE lake.utc(ts) = 'infinity'::TIMESTAMPTZ) AS t
    LEFT JOIN accounts AS a USING (stripe_account, account_id)
    UNION ALL BY NAME
    -- Joined first, so that who asks for a holder reads the transactions of their accounts alone.
    (
        SELECT t.*, a.account_holder_id
        FROM (
            FROM lake.transactions WHERE lake.utc(ts) <> 'infinity'::TIMESTAMPTZ AND observed_at <= lake.utc(ts)
        ) AS t
        LEFT JOIN accounts AS a USING (stripe_account, account_id)
        QUALIFY t.observed_at = max(t.observed_at) OVER (
            PARTITION BY stripe_account, account_id, a.account_holder_id, t.transaction_id
        )
    )
) AS t
WHERE t.status = 'posted' AND t.posted_at IS NOT NULL AND t.amount <> 0;

-- What a holder's amount is told by where what may be a transfer is sought: never two for one, and one for two at worst by chance.
CREATE MACRO lake.size_key(stripe_account, account_holder_id, currency, amount) AS
hash(stripe_account, account_holder_id, currency, abs(amount::HUGEINT));

-- Amounts that came and that went at a holder's: they are few, and what may be a transfer is sought among these alone. By one number,
-- as five million are grouped; one too many changes nothing, nor does a version that was replaced. Where a holder or a currency is not
-- known nothing is paired.
CREATE MACRO lake.moved_at(ts) AS TABLE
SELECT lake.size_key(stripe_account, a.account_holder_id, t.currency, t.amount) AS size_key
FROM lake.transactions AS t
JOIN accounts AS a USING (stripe_account, account_id)
WHERE t.observed_at <= lake.utc(ts) AND t.status = 'posted' AND t.amount <> 0
    AND a.account_holder_id IS NOT NULL AND t.currency IS NOT NULL
GROUP BY size_key
HAVING bool_or(t.amount > 0) AND bool_or(t.amount < 0);

-- Posted transactions are asked for twice by a macro, not as one subquery: where that is shared, DuckDB 2.0 waits forever for a LIMIT.
CREATE MACRO classified_transactions_as_of(ts) AS TABLE
WITH
near AS NOT MATERIALIZED (
    SELECT
        *,
        coalesce(day - lag(day) OVER by_time > 5, false) AS is_apart,
        -- Whether something of this size went the other way on another account, within five days.
        CASE
            WHEN is_in THEN coalesce(
                min(account_id) FILTER (NOT is_in) OVER around <> account_id
                OR max(account_id) FILTER (NOT is_in) OVER around <> account_id, false
            )
            ELSE coalesce(
                min(account_id) FILTER (is_in) OVER around <> account_id
                OR max(account_id) FILTER (is_in) OVER around <> account_id, false
            )
        END AS has_counterpart
    FROM (
        SELECT *, lake.size_key(stripe_account, account_holder_id, currency, amount) AS size_key
        FROM lake.posted_as_of(ts)
        WHERE account_holder_id IS NOT NULL AND currency IS NOT NULL
    )
    JOIN lake.moved_at(ts) USING (size_key)
    WINDOW
        by_time AS (PARTITION BY stripe_account, account_holder_id, currency, size ORDER BY posted_at, transaction_id),
        around AS (
            PARTITION BY stripe_account, account_holder_id, currency, size ORDER BY day
            RANGE BETWEEN INTERVAL 5 DAY PRECEDING AND INTERVAL 5 DAY FOLLOWING
        )
),
grouped AS NOT MATERIALIZED (
    SELECT *, sum(is_apart::INTEGER) OVER (
        PARTITION BY stripe_account, account_holder_id, currency, size ORDER BY posted_at, transaction_id
    ) AS cluster
    FROM near
),
numbered AS NOT MATERIALIZED (
    SELECT
        *,
        count(*) FILTER (is_in) OVER cluster_of = count(*) FILTER (NOT is_in) OVER cluster_of AS is_even,
        row_number() OVER (
            PARTITION BY stripe_account, account_holder_id, currency, size, cluster, is_in ORDER BY posted_at, transaction_id
        ) AS number
    FROM grouped
    WINDOW cluster_of AS (PARTITION BY stripe_account, account_holder_id, currency, size, cluster)
),
paired AS NOT MATERIALIZED (
    SELECT
        *,
        CASE
            WHEN is_even
                AND min(account_id) OVER pair <> max(account_id) OVER pair
                AND max(day) OVER pair - min(day) OVER pair <= 5
            THEN CASE
                WHEN is_in THEN max(transaction_id) FILTER (NOT is_in) OVER pair
                ELSE max(transaction_id) FILTER (is_in) OVER pair
            END
        END AS counterpart_id
    FROM numbered
    WINDOW pair AS (PARTITION BY stripe_account, account_holder_id, currency, size, cluster, number)
)
SELECT
    stripe_account,
    account_id,
    account_holder_id,
    transaction_id,
    t.currency,
    t.amount,
    major_units(t.amount, t.currency) AS major_amount,
    t.posted_at,
    t.day,
    t.description,
    t.payee,
    CASE
        WHEN p.counterpart_id IS NOT NULL THEN 'own_transfer'
        WHEN t.payment_kind IS NOT NULL AND t.payment_kind <> 'loan_payment' THEN t.payment_kind
        WHEN p.has_counterpart THEN 'unsure'
        WHEN t.payment_kind = 'loan_payment' AND NOT t.is_in THEN t.payment_kind
        WHEN t.is_in THEN 'money_in'
        ELSE 'money_out'
    END AS kind,
    p.counterpart_id
FROM lake.posted_as_of(ts) AS t
LEFT JOIN paired AS p USING (stripe_account, account_id, account_holder_id, transaction_id);

CREATE VIEW classified_transactions AS FROM classified_transactions_as_of('infinity');

COMMENT ON MACRO lake.size_key IS 'One number for the size of an amount at a holder''s; two sizes may have the same by chance.';
COMMENT ON MACRO TABLE lake.moved_at IS 'The sizes of amounts that came and that went at one holder''s, as known at ts.';
COMMENT ON MACRO TABLE lake.posted_as_of IS 'The posted transactions that were known at ts, with their holders and what their descriptions tell.';
COMMENT ON MACRO TABLE classified_transactions_as_of IS 'As the view classified_transactions, by what was known at ts; a date or a time without a zone is UTC.';
COMMENT ON VIEW classified_transactions IS 'One row per posted transaction: a transfer between the holder''s own accounts, a fee, the payment of a loan, or money in or out.';
COMMENT ON COLUMN classified_transactions.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN classified_transactions.account_id IS 'The account.';
COMMENT ON COLUMN classified_transactions.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN classified_transactions.transaction_id IS 'The transaction (`fctxn_…`).';
COMMENT ON COLUMN classified_transactions.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN classified_transactions.amount IS 'In minor units; positive = to the account holder, negative = from it.';
COMMENT ON COLUMN classified_transactions.major_amount IS '`amount` in major units; null where the currency is not known.';
COMMENT ON COLUMN classified_transactions.posted_at IS 'When it was booked (UTC).';
COMMENT ON COLUMN classified_transactions.day IS 'The day of that, in UTC.';
COMMENT ON COLUMN classified_transactions.description IS 'The institution''s text.';
COMMENT ON COLUMN classified_transactions.payee IS 'The letters of it, in lower case: who paid, or was paid; accents may be written in either way.';
COMMENT ON COLUMN classified_transactions.kind IS '`own_transfer`, `overdraft_fee`, `returned_fee` (positive = given back), `loan_payment`, `unsure` (it may be a transfer), `money_in`, `money_out`.';
COMMENT ON COLUMN classified_transactions.counterpart_id IS 'Of a transfer: the transaction on the other account.';
