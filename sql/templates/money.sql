-- By patterns: of an IN, DuckDB makes joins that it carries out even where nobody asks for the amount.
CREATE MACRO minor_unit_digits(currency) AS CASE
    WHEN regexp_full_match(currency, '[a-zA-Z]{3}') IS NOT TRUE THEN NULL
    WHEN regexp_full_match(currency, '(?i)($zero_decimal)') THEN 0
    WHEN regexp_full_match(currency, '(?i)($three_decimal)') THEN 3
    ELSE 2
END;

COMMENT ON MACRO minor_unit_digits IS
'Decimals of a currency''s major unit, as Stripe counts them; null for what is no currency code.';

-- For sums: the same multiplication as of a column of amounts, in a width that holds them.
CREATE MACRO major_units(minor, currency) AS (
    minor::DECIMAL(30, 0) * CASE minor_unit_digits(currency)
        WHEN 0 THEN 1::DECIMAL(4, 3)
        WHEN 2 THEN 0.01::DECIMAL(4, 3)
        WHEN 3 THEN 0.001::DECIMAL(4, 3)
    END
)::DECIMAL(38, 4);

-- What is asked for in major units would be another amount.
CREATE MACRO lake.whole_units(asked) AS CASE
    WHEN regexp_matches(typeof(asked), 'DOUBLE|FLOAT|, *[1-9]')
    THEN error('an amount is taken in whole minor units: 12500 for 125 dollars')
    ELSE asked
END;

COMMENT ON MACRO lake.whole_units IS 'An amount that somebody asked for, in minor units; one with decimals is an error.';
COMMENT ON MACRO major_units IS 'An amount in minor units, or a sum of such, in its currency''s major unit; exact.';
