-- Plot: cash at the end of each day, in the four currencies of most accounts.
SELECT day, currency, sum(current_amount)::DOUBLE AS amount
FROM balance_daily JOIN accounts USING (stripe_account, account_id) JOIN currencies_by_use USING (currency)
WHERE place <= 4 AND category = 'cash'
GROUP BY day, currency, place ORDER BY place, day
