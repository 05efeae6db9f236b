-- In what order currencies stand in the report: those of most accounts first.
SELECT currency, row_number() OVER (ORDER BY count(*) DESC, currency) AS place FROM balances GROUP BY currency
