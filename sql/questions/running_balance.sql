-- What the balance was after each transaction, reckoned from the newest balance back (and on, for what was posted since).
-- Grain: one row per posted transaction of an account and currency whose balance is known. A transaction that the institution
--   has not told yet is missing in the sums: see `balance_vs_transactions`. Of several at one time the ids say the order.
-- Units: minor units of the currency, and `…_amount` in its major unit.
-- Example: SELECT posted_at, description, major_amount, balance_amount FROM running_balance WHERE account_id = 'fca_…' ORDER BY posted_at;
CREATE VIEW running_balance AS
WITH posted AS NOT MATERIALIZED (
    SELECT
        t.stripe_account,
        t.account_id,
        t.transaction_id,
        t.currency,
        t.description,
        t.posted_at,
        t.amount,
        b.current,
        b.as_of,
        sum(t.amount) OVER so_far AS so_far,
        coalesce(sum(t.amount) FILTER (t.posted_at <= b.as_of) OVER one, 0) AS until_as_of
    FROM transactions AS t
    -- By the account alone, as in lake.balance_steps_at.
    JOIN balances AS b
        ON t.account_id = b.account_id AND coalesce(t.stripe_account = b.stripe_account AND t.currency = b.currency, false)
    WHERE t.status = 'posted' AND t.posted_at IS NOT NULL AND b.current IS NOT NULL AND b.as_of IS NOT NULL
    WINDOW
        one AS (PARTITION BY t.stripe_account, t.account_id, t.currency),
        so_far AS (
            PARTITION BY t.stripe_account, t.account_id, t.currency ORDER BY t.posted_at, t.transaction_id
            ROWS UNBOUNDED PRECEDING
        )
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    p.transaction_id,
    p.currency,
    p.description,
    p.posted_at,
    p.amount,
    major_units(p.amount, p.currency) AS major_amount,
    (p.current + p.so_far - p.until_as_of)::DECIMAL(38, 0) AS balance,
    major_units(balance, p.currency) AS balance_amount,
    p.as_of AS known_as_of,
    p.posted_at > p.as_of AS is_after_known
FROM posted AS p
LEFT JOIN accounts AS a USING (stripe_account, account_id);

COMMENT ON VIEW running_balance IS 'One row per posted transaction: the balance after it, reckoned from the newest balance.';
COMMENT ON COLUMN running_balance.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN running_balance.account_id IS 'The account.';
COMMENT ON COLUMN running_balance.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN running_balance.transaction_id IS 'The transaction.';
COMMENT ON COLUMN running_balance.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN running_balance.description IS 'The institution''s text.';
COMMENT ON COLUMN running_balance.posted_at IS 'When it was booked (UTC).';
COMMENT ON COLUMN running_balance.amount IS 'Its amount, in minor units; positive = to the account holder.';
COMMENT ON COLUMN running_balance.major_amount IS '`amount` in major units.';
COMMENT ON COLUMN running_balance.balance IS 'The balance after it, in minor units.';
COMMENT ON COLUMN running_balance.balance_amount IS '`balance` in major units.';
COMMENT ON COLUMN running_balance.known_as_of IS 'When the institution computed the newest balance, from which it is reckoned (UTC).';
COMMENT ON COLUMN running_balance.is_after_known IS 'True where it was posted after that: then this is what the balance will be, not what the institution said.';
