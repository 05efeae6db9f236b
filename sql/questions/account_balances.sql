-- What each account holds now, whose it is, and whether that can still be said.
-- Grain: one row per account and currency; an account with no known balance has one row without a currency.
--   `holding` is `not linked` where the account is disconnected or on Stripe's list no more; `stale` where it is inactive (it
--   cannot be read any more) or its balance is 30 days older than the newest thing known of any balance; else `live`.
--   The same bank account linked twice (same Stripe account, holder, institution, category and `last4`) is two rows: on all but
--   the freshest, `duplicate_of` names that.
-- Units: minor units of the currency, and `…_amount` in its major unit. Never add rows of different currencies.
-- Example: SELECT holding, count(*) AS accounts, sum(current_amount) AS current FROM account_balances WHERE currency = 'usd' GROUP BY ALL;
CREATE VIEW account_balances AS
WITH nameable AS NOT MATERIALIZED (
    SELECT *, hash(stripe_account, account_holder_id, institution_name, last4, category) AS name_key
    FROM accounts
    WHERE status IS DISTINCT FROM 'disconnected' AND absent_since IS NULL
      AND account_holder_id IS NOT NULL AND institution_name IS NOT NULL AND last4 IS NOT NULL
),
-- Linked twice, or of one number with another by chance, whom the partition below tells apart: of a million, five texts take long.
twice AS NOT MATERIALIZED (
    SELECT name_key FROM nameable GROUP BY name_key HAVING count(*) > 1
),
copies AS NOT MATERIALIZED (
    SELECT
        stripe_account,
        account_id,
        first_value(account_id) OVER (
            PARTITION BY stripe_account, account_holder_id, institution_name, last4, category
            ORDER BY status = 'active' DESC NULLS LAST, balance_as_of DESC NULLS LAST, created_at DESC NULLS LAST, account_id
        ) AS freshest
    FROM nameable
    SEMI JOIN twice USING (name_key)
)
SELECT
    stripe_account,
    account_id,
    a.account_holder_type,
    a.account_holder_id,
    a.institution_name,
    a.category,
    a.subcategory,
    a.last4,
    a.status,
    CASE
        WHEN a.status = 'disconnected' OR a.absent_since IS NOT NULL THEN 'not linked'
        WHEN a.status = 'inactive' OR b.as_of < newest.at - INTERVAL 30 DAY THEN 'stale'
        ELSE 'live'
    END AS holding,
    nullif(c.freshest, account_id) AS duplicate_of,
    b.currency,
    b.current,
    b.available,
    b.used,
    b.current_amount,
    b.available_amount,
    b.used_amount,
    b.as_of
FROM accounts AS a
CROSS JOIN (SELECT max(observed_at) AS at FROM lake.balances) AS newest
LEFT JOIN balances AS b USING (stripe_account, account_id)
LEFT JOIN copies AS c USING (stripe_account, account_id);

COMMENT ON VIEW account_balances IS 'One row per account and currency: what it holds now, whose it is, and whether that is live, stale or not linked any more.';
COMMENT ON COLUMN account_balances.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN account_balances.account_id IS 'The account.';
COMMENT ON COLUMN account_balances.account_holder_type IS '`customer`, `account`, …; null = no holder.';
COMMENT ON COLUMN account_balances.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`).';
COMMENT ON COLUMN account_balances.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN account_balances.category IS '`cash`, `credit`, `investment`, `other`, …';
COMMENT ON COLUMN account_balances.subcategory IS '`checking`, `savings`, `credit_card`, …';
COMMENT ON COLUMN account_balances.last4 IS 'Last four digits of the account number; treated as `--pii` says.';
COMMENT ON COLUMN account_balances.status IS 'The link: `active`, `inactive`, `disconnected`, …';
COMMENT ON COLUMN account_balances.holding IS '`live`; `stale` = inactive, or a balance 30 days older than the newest known; `not linked` = disconnected, or not listed any more.';
COMMENT ON COLUMN account_balances.duplicate_of IS 'The account that is the same bank account, linked again and fresher; null = this one counts.';
COMMENT ON COLUMN account_balances.currency IS 'ISO code in lower case; null = no balance is known.';
COMMENT ON COLUMN account_balances.current IS 'Before pending transactions, in minor units; negative = owed by the holder.';
COMMENT ON COLUMN account_balances.available IS 'Cash that can be used, in minor units.';
COMMENT ON COLUMN account_balances.used IS 'Credit in use, in minor units.';
COMMENT ON COLUMN account_balances.current_amount IS '`current` in major units.';
COMMENT ON COLUMN account_balances.available_amount IS '`available` in major units.';
COMMENT ON COLUMN account_balances.used_amount IS '`used` in major units.';
COMMENT ON COLUMN account_balances.as_of IS 'When the institution computed it (UTC).';
