SELECT currency, category, sum(duplicate_accounts)::BIGINT AS accounts_linked_twice,
    sum(duplicate_current_amount)::DECIMAL(38, 3) AS linked_twice, sum(stale_accounts)::BIGINT AS stale_accounts,
    sum(stale_current_amount)::DECIMAL(38, 3) AS stale, sum(unlinked_accounts)::BIGINT AS accounts_not_linked,
    sum(unlinked_current_amount)::DECIMAL(38, 3) AS not_linked
FROM balance_totals JOIN currencies_by_use USING (currency)
GROUP BY currency, category, place
HAVING sum(duplicate_accounts + stale_accounts + unlinked_accounts) > 0
ORDER BY place, category
