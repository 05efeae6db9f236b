-- Plot: what is held and owed, in the four currencies of most accounts.
SELECT currency, coalesce(category, 'not said') AS category, sum(current_amount)::DOUBLE AS amount
FROM balance_totals JOIN currencies_by_use USING (currency) WHERE place <= 4
GROUP BY currency, category, place HAVING sum(current_amount) IS NOT NULL ORDER BY place, category
