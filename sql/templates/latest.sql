-- The latest of the versions of every object of $table.
FROM $versions AS version
SEMI JOIN (SELECT $key, max(observed_at) AS observed_at FROM $versions GROUP BY ALL) AS newest
ON $same_object AND version.observed_at = newest.observed_at
