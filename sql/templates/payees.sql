-- Who paid or was paid, by an institution's text; and how alike the amounts of one payee are.
CREATE MACRO lake.payee(text) AS trim(regexp_replace(nfc_normalize(lower(text)), '[^\pL]+', ' ', 'g'));

-- By whole numbers: a share that was rounded would take in what lies a little outside.
CREATE MACRO lake.lie_within(lowest, highest, typical, tenths) AS
10 * (highest::HUGEINT - lowest::HUGEINT) <= tenths * abs(typical::HUGEINT);

CREATE MACRO lake.amount_spread(lowest, highest, typical) AS (lake.rounded_quotient(
    10000 * least(highest::HUGEINT - lowest::HUGEINT, 9999 * abs(typical::HUGEINT)), abs(typical::HUGEINT)
)::DECIMAL(12, 0) * 0.0001::DECIMAL(5, 4))::DECIMAL(9, 4);

CREATE MACRO lake.confidence(occurrences, lowest, highest, typical) AS CASE
    WHEN occurrences >= 6 AND lake.lie_within(lowest, highest, typical, 1) THEN 'high'
    WHEN occurrences >= 4 AND lake.lie_within(lowest, highest, typical, 1) THEN 'medium'
    WHEN occurrences >= 6 AND lake.lie_within(lowest, highest, typical, 5) THEN 'medium'
    ELSE 'low'
END;

COMMENT ON MACRO lake.payee IS 'The letters of a text, in lower case, however its accents are written.';
COMMENT ON MACRO lake.lie_within IS 'Whether amounts lie within so many tenths of the typical one; exact.';
COMMENT ON MACRO lake.amount_spread IS 'The largest less the smallest, as a share of the typical; 9999 at most.';
COMMENT ON MACRO lake.confidence IS 'How sure it is that a payee comes again: high, medium or low.';
