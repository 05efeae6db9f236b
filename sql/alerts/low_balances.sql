-- Cash accounts have less than 100 available, in major units: a debit may fail.
SELECT stripe_account, account_id, account_holder_id, institution_name, currency, available_amount, as_of,
    concat_ws(' ', stripe_account, account_id, currency) AS key
FROM low_balance_risk(100);
