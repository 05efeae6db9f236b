SELECT currency, account_holder_id AS holder, description, typical_amount::DECIMAL(38, 3) AS typical_amount, period_days AS days_between, confidence,
    next_expected_on AS next_expected
FROM recurring_transactions LEFT JOIN currencies_by_use USING (currency)
WHERE is_income
ORDER BY confidence = 'high' DESC, confidence = 'medium' DESC, place, typical DESC, account_id, description
