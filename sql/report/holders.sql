-- The three largest of each of the four most frequent currencies first, then all others.
SELECT currency, account_holder_id AS holder, accounts, current_amount::DECIMAL(38, 3) AS current, available_amount::DECIMAL(38, 3) AS available
FROM (
    SELECT *, row_number() OVER (PARTITION BY currency ORDER BY current DESC, account_holder_id) AS rank
    FROM account_holders WHERE accounts > 0 AND current IS NOT NULL
)
JOIN currencies_by_use USING (currency)
ORDER BY place > 4 OR rank > 3, place, rank
