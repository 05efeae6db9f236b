-- The latest known version of every object of $table.
CREATE VIEW main.$table AS
FROM lake.$table AS version
SEMI JOIN (SELECT $key, max(observed_at) AS observed_at FROM lake.$table GROUP BY ALL) AS newest
ON $same;
