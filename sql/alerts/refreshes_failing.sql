-- At an institution most refreshes of a feature fail, of three accounts or more.
SELECT DISTINCT stripe_account, feature, institution_name, share_failed,
    concat_ws(' ', stripe_account, feature, institution_name) AS key
FROM refresh_health
WHERE share_failed > 0.5
  AND (stripe_account, feature, institution_name) IN (
      SELECT (stripe_account, feature, institution_name) FROM refresh_health GROUP BY ALL HAVING sum(accounts) >= 3
  );
