-- How much is held and owed: one row per currency, category and institution, over active and inactive accounts.
CREATE VIEW balance_totals AS
SELECT
    b.currency,
    a.category,
    a.institution_name,
    count(*) AS accounts,
    sum(b.current)::HUGEINT AS current,
    sum(b.available)::HUGEINT AS available,
    sum(b.used)::HUGEINT AS used,
    sum(b.current_amount)::DECIMAL(38, 4) AS current_amount,
    sum(b.available_amount)::DECIMAL(38, 4) AS available_amount,
    sum(b.used_amount)::DECIMAL(38, 4) AS used_amount,
    min(b.as_of) AS oldest_as_of
FROM balances AS b
JOIN accounts AS a USING (account_id)
WHERE a.status <> 'disconnected'
GROUP BY ALL;

COMMENT ON VIEW balance_totals IS 'What is held and owed now, per currency, category and institution; disconnected accounts left out.';
COMMENT ON COLUMN balance_totals.currency IS 'ISO code in lower case; currencies are never added together.';
COMMENT ON COLUMN balance_totals.category IS 'Category of the accounts.';
COMMENT ON COLUMN balance_totals.institution_name IS 'Who holds the accounts.';
COMMENT ON COLUMN balance_totals.accounts IS 'Accounts with a balance in this currency.';
COMMENT ON COLUMN balance_totals.current IS 'Sum of current, in minor units.';
COMMENT ON COLUMN balance_totals.available IS 'Sum of available, in minor units.';
COMMENT ON COLUMN balance_totals.used IS 'Sum of used, in minor units.';
COMMENT ON COLUMN balance_totals.current_amount IS 'Sum of current, in major units.';
COMMENT ON COLUMN balance_totals.available_amount IS 'Sum of available, in major units.';
COMMENT ON COLUMN balance_totals.used_amount IS 'Sum of used, in major units.';
COMMENT ON COLUMN balance_totals.oldest_as_of IS 'The oldest balance in the sum.';
