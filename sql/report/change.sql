SELECT currency, count(*) AS accounts, count(*) FILTER (change > 0) AS rose, count(*) FILTER (change < 0) AS fell,
    sum(from_amount)::DECIMAL(38, 3) AS a_week_ago, sum(to_amount)::DECIMAL(38, 3) AS now, sum(change_amount)::DECIMAL(38, 3) AS change,
    (100 * sum(change) / nullif(abs(sum(from_current)), 0))::DECIMAL(38, 1) AS percent
FROM balance_change JOIN currencies_by_use USING (currency)
GROUP BY currency, place ORDER BY place
