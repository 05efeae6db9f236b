-- By patterns: of an IN, DuckDB makes joins that it carries out even where nobody asks for the amount.
CREATE MACRO minor_unit_digits(currency) AS CASE
    WHEN regexp_full_match(currency, '[a-zA-Z]{3}') IS NOT TRUE THEN NULL
    WHEN regexp_full_match(currency, '(?i)($zero_decimal)') THEN 0
    WHEN regexp_full_match(currency, '(?i)($three_decimal)') THEN 3
    ELSE 2
END;

COMMENT ON MACRO minor_unit_digits IS
'Decimals of a currency''s major unit, as Stripe counts them; null for what is no currency code.';

-- Written out, not by minor_unit_digits: DuckDB makes a comparison of each WHEN, with all of that macro in each.
CREATE MACRO lake.major_unit(currency) AS CASE
    WHEN regexp_full_match(currency, '[a-zA-Z]{3}') IS NOT TRUE THEN NULL
    WHEN regexp_full_match(currency, '(?i)($zero_decimal)') THEN 1::DECIMAL(4, 3)
    WHEN regexp_full_match(currency, '(?i)($three_decimal)') THEN 0.001::DECIMAL(4, 3)
    ELSE 0.01::DECIMAL(4, 3)
END;

COMMENT ON MACRO lake.major_unit IS 'One minor unit of a currency in its major unit; null for what is no currency code.';

-- By a multiplication of decimals, which is exact, in a width that holds sums; a division would go through DOUBLE.
CREATE MACRO major_units(minor, currency) AS (minor::DECIMAL(30, 0) * lake.major_unit(currency))::DECIMAL(38, 4);

-- What is asked for in major units would be another amount.
CREATE MACRO lake.whole_units(asked) AS CASE
    WHEN regexp_matches(typeof(asked), 'DOUBLE|FLOAT|, *[1-9]')
    THEN error('an amount is taken in whole minor units: 12500 for 125 dollars')
    ELSE asked
END;

COMMENT ON MACRO lake.whole_units IS 'An amount that somebody asked for, in minor units; one with decimals is an error.';
COMMENT ON MACRO major_units IS 'An amount in minor units, or a sum of such, in its currency''s major unit; exact.';
