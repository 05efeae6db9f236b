-- Refreshes at an institution fail more than is usual there, and did within 7 days: it may be the institution, and no link.
SELECT stripe_account, institution_name, feature, began_at, last_failed_at, accounts, holders, share_failed, usual_share,
    concat_ws(' ', stripe_account, institution_name, feature) AS key
FROM institution_incidents
WHERE ended_on IS NULL AND last_failed_at > now() - INTERVAL 7 DAY;
