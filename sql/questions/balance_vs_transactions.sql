-- Does the change of a balance agree with what was posted meanwhile.
-- Grain: one row per account, currency and pair of balances that follow each other, of accounts whose transactions are
--   read. `unexplained` is the rest: 0 where they agree.
-- Units: minor units of the currency, and `…_amount` in its major unit.
-- A transaction that the institution tells late leaves a rest until it is known: `is_complete` marks the pairs for which the
--   transactions were read by a refresh five days after the second balance, or later. What has a rest then wants explaining.
-- Example: SELECT * FROM balance_vs_transactions WHERE is_complete AND unexplained <> 0;
CREATE VIEW balance_vs_transactions AS
WITH known AS NOT MATERIALIZED (
    SELECT stripe_account, account_id, currency, as_of, max_by(current, observed_at) AS current
    FROM lake.balances
    WHERE current IS NOT NULL
    GROUP BY ALL
),
steps AS NOT MATERIALIZED (
    SELECT
        *,
        lag(as_of) OVER one_account AS from_as_of,
        lag(current) OVER one_account AS from_current
    FROM known
    SEMI JOIN (FROM lake.watermarks WHERE feature = 'transaction' AND refused_at IS NULL) USING (stripe_account, account_id)
    WINDOW one_account AS (PARTITION BY stripe_account, account_id, currency ORDER BY as_of)
),
-- What was posted before the first balance explains no change: most of it, where the lake is young. It is grouped by the
-- transactions' own columns, so that who asks of one account reads that one's rows on both sides.
posted AS NOT MATERIALIZED (
    SELECT t.stripe_account, t.account_id, t.currency, s.as_of, count(*) AS transactions, sum(t.amount) AS posted
    FROM (
        SELECT t.*
        FROM transactions AS t
        JOIN (SELECT stripe_account, account_id, currency, min(as_of) AS first_as_of FROM known GROUP BY ALL) AS f
            -- By the account alone, as in lake.balance_steps_at.
            ON t.account_id = f.account_id
            AND coalesce(t.posted_at > f.first_as_of AND t.stripe_account = f.stripe_account AND t.currency = f.currency, false)
        WHERE t.status = 'posted'
    ) AS t
    ASOF JOIN steps AS s
        ON t.stripe_account = s.stripe_account AND t.account_id = s.account_id AND t.currency = s.currency
        AND t.posted_at <= s.as_of
    GROUP BY ALL
),
read AS (
    SELECT stripe_account, account_id, max(last_attempted_at) AS read_until
    FROM lake.watermarks
    WHERE feature = 'transaction' AND status = 'succeeded' AND refused_at IS NULL
    GROUP BY ALL
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    currency,
    s.from_as_of,
    s.as_of AS to_as_of,
    s.from_current,
    s.current AS to_current,
    (s.current::DECIMAL(38, 0) - s.from_current)::DECIMAL(38, 0) AS change,
    coalesce(p.transactions, 0) AS transactions,
    coalesce(p.posted, 0)::DECIMAL(38, 0) AS posted,
    (change - coalesce(p.posted, 0))::DECIMAL(38, 0) AS unexplained,
    major_units(from_current, currency) AS from_current_amount,
    major_units(to_current, currency) AS to_current_amount,
    major_units(change, currency) AS change_amount,
    major_units(coalesce(p.posted, 0), currency) AS posted_amount,
    major_units(unexplained, currency) AS unexplained_amount,
    coalesce(s.as_of + INTERVAL 5 DAY <= r.read_until, false) AS is_complete
FROM steps AS s
LEFT JOIN posted AS p USING (stripe_account, account_id, currency, as_of)
LEFT JOIN read AS r USING (stripe_account, account_id)
LEFT JOIN accounts AS a USING (stripe_account, account_id)
WHERE s.from_as_of IS NOT NULL;

COMMENT ON VIEW balance_vs_transactions IS 'One row per account, currency and pair of balances that follow each other: the change, what was posted between them, and the rest.';
COMMENT ON COLUMN balance_vs_transactions.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN balance_vs_transactions.account_id IS 'The account.';
COMMENT ON COLUMN balance_vs_transactions.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN balance_vs_transactions.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN balance_vs_transactions.from_as_of IS 'When the institution computed the first balance (UTC).';
COMMENT ON COLUMN balance_vs_transactions.to_as_of IS 'When it computed the second (UTC).';
COMMENT ON COLUMN balance_vs_transactions.from_current IS 'The first balance, in minor units.';
COMMENT ON COLUMN balance_vs_transactions.to_current IS 'The second balance, in minor units.';
COMMENT ON COLUMN balance_vs_transactions.change IS 'The second less the first, in minor units.';
COMMENT ON COLUMN balance_vs_transactions.transactions IS 'Transactions posted after the first and up to the second.';
COMMENT ON COLUMN balance_vs_transactions.posted IS 'Their sum, in minor units.';
COMMENT ON COLUMN balance_vs_transactions.unexplained IS '`change` less `posted`, in minor units; 0 = they agree.';
COMMENT ON COLUMN balance_vs_transactions.from_current_amount IS '`from_current` in major units.';
COMMENT ON COLUMN balance_vs_transactions.to_current_amount IS '`to_current` in major units.';
COMMENT ON COLUMN balance_vs_transactions.change_amount IS '`change` in major units.';
COMMENT ON COLUMN balance_vs_transactions.posted_amount IS '`posted` in major units.';
COMMENT ON COLUMN balance_vs_transactions.unexplained_amount IS '`unexplained` in major units; null where the currency is not known.';
COMMENT ON COLUMN balance_vs_transactions.is_complete IS 'True where the transactions are read up to a refresh five days after the second balance, or later; false = the rest may be transactions still to come.';
