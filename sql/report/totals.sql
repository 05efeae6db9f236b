SELECT currency, category, sum(accounts)::BIGINT AS accounts, sum(current_amount)::DECIMAL(38, 3) AS current,
    sum(available_amount)::DECIMAL(38, 3) AS available, sum(used_amount)::DECIMAL(38, 3) AS used
FROM balance_totals JOIN currencies_by_use USING (currency)
WHERE accounts > 0
GROUP BY currency, category, place ORDER BY place, category
