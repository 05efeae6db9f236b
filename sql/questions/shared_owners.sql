-- Which accounts belong to the same person: they share an email address, a phone number, or a name and postal address.
-- Grain: one row per Stripe account and shared value that stands on two accounts or more.
-- Units: counts of accounts and of account holders; values as the table owners has them, plain or hashed.
-- Plain values are compared in lower case and with single spaces, as they are before they are hashed; so the answer is
--   the same whether owners were kept or hashed (not across the two). Where they were dropped there is none. A plain value
--   that is blank counts as unknown: a name alone, without an address, does not match.
-- Example: SELECT matched_on, accounts, account_ids FROM shared_owners WHERE account_holders > 1 ORDER BY accounts DESC;
CREATE VIEW shared_owners AS
WITH plain AS (
    SELECT
        stripe_account,
        account_id,
        nullif(trim(regexp_replace(lower(COLUMNS(['name', 'email', 'phone', 'raw_address'])), '[\s\pZ]+', ' ', 'g')), '')
    FROM owners
),
people AS (
    SELECT
        stripe_account,
        account_id,
        unnest(['email', 'phone', 'name and address']) AS matched_on,
        unnest([email, phone, name || ', ' || raw_address]) AS value
    FROM plain
)
SELECT
    stripe_account,
    p.matched_on,
    p.value,
    count(DISTINCT account_id) AS accounts,
    list_sort(list(DISTINCT account_id)) AS account_ids,
    count(DISTINCT a.account_holder_id) AS account_holders,
    count(DISTINCT a.institution_name) AS institutions
FROM people AS p
JOIN accounts AS a USING (stripe_account, account_id)
WHERE p.value IS NOT NULL
GROUP BY stripe_account, p.matched_on, p.value
HAVING count(DISTINCT account_id) > 1;

COMMENT ON VIEW shared_owners IS 'One row per Stripe account and email address, phone number, or name with postal address that owners of two accounts or more share.';
COMMENT ON COLUMN shared_owners.stripe_account IS 'The Stripe account that was asked; empty = the key''s own.';
COMMENT ON COLUMN shared_owners.matched_on IS 'What they share: `email`, `phone`, or `name and address`.';
COMMENT ON COLUMN shared_owners.value IS 'The shared value, in lower case; a keyed hash (`pii_…`) where owners are hashed.';
COMMENT ON COLUMN shared_owners.accounts IS 'How many accounts share it.';
COMMENT ON COLUMN shared_owners.account_ids IS 'Which accounts, sorted.';
COMMENT ON COLUMN shared_owners.account_holders IS 'How many account holders (customers) these accounts belong to.';
COMMENT ON COLUMN shared_owners.institutions IS 'How many institutions hold them.';
