SELECT institution_name AS institution, feature, began_at AS began, ended_on AS ended, accounts,
    (100 * share_failed)::DECIMAL(5, 1) AS failed_percent, (100 * usual_share)::DECIMAL(5, 1) AS usual_percent
FROM institution_incidents
ORDER BY ended_on IS NULL DESC, began_at DESC, institution, feature, stripe_account
