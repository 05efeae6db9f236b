SELECT month, currency, sum(transactions)::BIGINT AS transactions, sum(money_in_amount)::DECIMAL(38, 3) AS money_in,
    sum(money_out_amount)::DECIMAL(38, 3) AS money_out, sum(net_amount)::DECIMAL(38, 3) AS net
FROM transaction_monthly LEFT JOIN currencies_by_use USING (currency)
GROUP BY month, currency, place ORDER BY month DESC, place
