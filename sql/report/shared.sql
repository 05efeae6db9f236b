SELECT matched_on AS shared, count(*) AS values, max(accounts) AS most_accounts, count(*) FILTER (account_holders > 1) AS across_holders,
    count(*) FILTER (institutions > 1) AS across_institutions
FROM shared_owners GROUP BY ALL ORDER BY values DESC, shared
