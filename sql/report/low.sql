SELECT currency, staleness, count(*) AS accounts, count(*) FILTER (available_amount < 0) AS overdrawn
FROM low_balance_risk GROUP BY ALL ORDER BY currency, min(hours_old)
