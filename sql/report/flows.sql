-- Plot: what was posted by month, a year back, in the four currencies of most accounts.
SELECT month, currency, sum(money_in_amount)::DOUBLE AS money_in, sum(money_out_amount)::DOUBLE AS money_out
FROM transaction_monthly JOIN currencies_by_use USING (currency)
WHERE place <= 4 AND month > (SELECT max(month) FROM transaction_monthly) - INTERVAL 12 MONTH
GROUP BY month, currency, place ORDER BY place, month
