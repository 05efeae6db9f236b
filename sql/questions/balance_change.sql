-- Whose balance rose or fell, from a number of days ago to now.
-- Grain: one row per live account and currency for which a balance of that time is known: the last that the institution computed
--   so many days before the newest thing known of any balance, or earlier. The view looks 7 days back; `balance_change(days)` as
--   far as you say. An account of which nothing so old is known is not in it.
-- Units: minor units of the currency, and `…_amount` in its major unit; percent of what it was.
-- Example: SELECT account_holder_id, account_id, change_percent FROM balance_change(30) WHERE currency = 'usd' AND change_percent < -50;
CREATE MACRO balance_change(days) AS TABLE
WITH versions AS NOT MATERIALIZED (
    SELECT stripe_account, account_id, max_by(observed_at, (least(as_of, observed_at), observed_at)) AS observed_at
    FROM lake.balances
    WHERE least(as_of, observed_at) <= (SELECT max(observed_at) FROM lake.balances) - to_days(days::INTEGER)
    GROUP BY stripe_account, account_id
),
before AS NOT MATERIALIZED (
    -- Joined, not semi-joined, so that who asks of one account looks for its version alone.
    FROM lake.balances JOIN versions USING (stripe_account, account_id, observed_at)
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    a.institution_name,
    a.category,
    currency,
    b.as_of AS from_as_of,
    a.as_of AS to_as_of,
    b.current AS from_current,
    a.current AS to_current,
    (a.current::HUGEINT - b.current)::DECIMAL(38, 0) AS change,
    b.current_amount AS from_amount,
    a.current_amount AS to_amount,
    major_units(change, currency) AS change_amount,
    CASE WHEN b.current <> 0 THEN (100 * change / abs(b.current::HUGEINT))::DECIMAL(38, 1) END AS change_percent
FROM account_balances AS a
JOIN before AS b USING (stripe_account, account_id, currency)
WHERE a.holding = 'live' AND a.current IS NOT NULL AND b.current IS NOT NULL;

CREATE VIEW balance_change AS FROM balance_change(7);

COMMENT ON MACRO TABLE balance_change IS 'As the view of the same name, since so many `days` ago.';
COMMENT ON VIEW balance_change IS 'One row per live account and currency: its balance a week ago and now, and what changed.';
COMMENT ON COLUMN balance_change.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN balance_change.account_id IS 'The account.';
COMMENT ON COLUMN balance_change.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`).';
COMMENT ON COLUMN balance_change.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN balance_change.category IS 'Its category.';
COMMENT ON COLUMN balance_change.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN balance_change.from_as_of IS 'When the institution computed the earlier balance (UTC).';
COMMENT ON COLUMN balance_change.to_as_of IS 'When it computed the newest (UTC).';
COMMENT ON COLUMN balance_change.from_current IS 'The earlier balance, in minor units.';
COMMENT ON COLUMN balance_change.to_current IS 'The newest, in minor units.';
COMMENT ON COLUMN balance_change.change IS 'The newest less the earlier, in minor units.';
COMMENT ON COLUMN balance_change.from_amount IS '`from_current` in major units.';
COMMENT ON COLUMN balance_change.to_amount IS '`to_current` in major units.';
COMMENT ON COLUMN balance_change.change_amount IS '`change` in major units.';
COMMENT ON COLUMN balance_change.change_percent IS '`change` in percent of the earlier balance, whatever its sign; negative = it fell; null = it was 0.';
