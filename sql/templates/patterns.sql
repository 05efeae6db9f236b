-- By what text a payment is known. The patterns stand in the macro itself, for DuckDB compiles those anew, row by row, that do not.
-- Most texts fit none, and are looked through once.
CREATE OR REPLACE VIEW main.payment_patterns AS FROM (VALUES $rows) AS patterns (kind, language, pattern);

CREATE OR REPLACE MACRO lake.payment_kind(text) AS CASE WHEN $any THEN CASE $cases END END;

COMMENT ON VIEW main.payment_patterns IS 'One row per pattern by which a payment is known: fees for what was not covered, payments of loans; those of patterns.csv among them.';
COMMENT ON COLUMN main.payment_patterns.kind IS '`overdraft_fee`, `returned_fee` or `loan_payment`.';
COMMENT ON COLUMN main.payment_patterns.language IS 'Of the text: `en`, `es`, `fr`, `de`, …';
COMMENT ON COLUMN main.payment_patterns.pattern IS 'A regular expression (RE2) for the description in lower case.';
COMMENT ON MACRO lake.payment_kind IS 'What kind of payment a description tells, by payment_patterns; null = none of these.';
