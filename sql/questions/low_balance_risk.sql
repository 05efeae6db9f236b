-- Which accounts may not cover a debit, and how old is what we know of them.
-- Grain: one row per active cash account (its `category` is `cash`) and currency whose available balance is known and under a threshold. The view
--   has those under 100; `low_balance_risk(threshold)` takes another. An account whose bank names no available
--   balance cannot be judged and is not in it.
-- Units: the threshold is in the major unit of each currency (100 dollars, 100 yen), so ask of one currency at a time.
-- Example: SELECT staleness, count(*) AS accounts FROM low_balance_risk(2500) WHERE currency = 'usd' GROUP BY ALL;
CREATE MACRO low_balance_risk(threshold) AS TABLE
SELECT
    stripe_account,
    account_id,
    a.account_holder_id,
    a.institution_name,
    b.currency,
    b.available,
    b.available_amount,
    b.current_amount,
    b.as_of,
    date_sub('hour', b.as_of, now()) AS hours_old,
    CASE
        WHEN hours_old < 6 THEN 'under 6 hours'
        WHEN hours_old < 24 THEN 'under a day'
        WHEN hours_old < 168 THEN 'under a week'
        ELSE 'a week or more'
    END AS staleness,
    r.status AS last_refresh_status,
    r.next_refresh_available_at
FROM balances AS b
JOIN accounts AS a USING (stripe_account, account_id)
LEFT JOIN (FROM refreshes WHERE feature = 'balance') AS r USING (stripe_account, account_id)
WHERE a.status = 'active' AND a.absent_since IS NULL AND a.category = 'cash' AND b.available_amount < threshold;

CREATE VIEW low_balance_risk AS FROM low_balance_risk(100);

COMMENT ON MACRO TABLE low_balance_risk IS 'As the view of the same name, with available under `threshold`, in the major unit of each currency.';
COMMENT ON VIEW low_balance_risk IS 'One row per active account of the category `cash` and currency with less than 100 available, in the currency''s major unit.';
COMMENT ON COLUMN low_balance_risk.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN low_balance_risk.account_id IS 'The account.';
COMMENT ON COLUMN low_balance_risk.account_holder_id IS 'Whose it is (`cus_…` or `acct_…`); null = no holder, or the account is not known.';
COMMENT ON COLUMN low_balance_risk.institution_name IS 'Who holds the account.';
COMMENT ON COLUMN low_balance_risk.currency IS 'ISO code in lower case.';
COMMENT ON COLUMN low_balance_risk.available IS 'Cash that can be used now, in minor units; negative = overdrawn.';
COMMENT ON COLUMN low_balance_risk.available_amount IS '`available` in major units.';
COMMENT ON COLUMN low_balance_risk.current_amount IS 'The balance before pending transactions, in major units.';
COMMENT ON COLUMN low_balance_risk.as_of IS 'When the institution computed it (UTC).';
COMMENT ON COLUMN low_balance_risk.hours_old IS 'Whole hours since then.';
COMMENT ON COLUMN low_balance_risk.staleness IS '`under 6 hours`, `under a day`, `under a week`, `a week or more`.';
COMMENT ON COLUMN low_balance_risk.last_refresh_status IS 'Outcome of the last attempt to refresh the balance; null = none was made.';
COMMENT ON COLUMN low_balance_risk.next_refresh_available_at IS 'From when another is allowed (UTC).';
