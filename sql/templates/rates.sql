-- The rates that `fincon rates` was given, and what is reckoned with them. The inner columns of rate_taken have names of their
-- own, for what a caller hands over is bound among them: a `day` of theirs must not be the day of the rate.
CREATE TABLE lake.rates (day DATE, from_currency VARCHAR, to_currency VARCHAR, rate DECIMAL(19, 12));

CREATE VIEW main.rates AS FROM lake.rates;

COMMENT ON TABLE lake.rates IS 'The rates, as they were given.';
COMMENT ON VIEW main.rates IS 'One row per day and pair of currencies: the rate, as `fincon rates` was given it.';

-- As two factors that are there once: whatever an argument of a macro is, DuckDB binds and computes it at each place where it stands.
CREATE MACRO lake.rate_taken(source, target, on_day) AS (
    SELECT max_by({'times': _times, 'by': _by, 'day': _day}, (_day, _from = lower(source)))
    FROM (
        SELECT
            *,
            CASE WHEN _from = lower(source) THEN _rate * 1000000000000::DECIMAL(13, 0) ELSE 1000000000000 END::HUGEINT AS _times,
            CASE WHEN _from = lower(source) THEN 1000000000000 ELSE _rate * 1000000000000::DECIMAL(13, 0) END::HUGEINT AS _by
        FROM lake.rates AS given(_day, _from, _to, _rate)
    )
    WHERE ((_from = lower(source) AND _to = lower(target)) OR (_from = lower(target) AND _to = lower(source)))
      AND _day <= CASE
          WHEN regexp_full_match(on_day::VARCHAR, '[0-9-]+([ T][0-9:.]+)?') THEN left(on_day::VARCHAR, 10)::DATE
          ELSE make_timestamp(epoch_us(on_day::VARCHAR::TIMESTAMPTZ))::DATE
      END
);

CREATE MACRO lake.power_of_ten(n) AS [1, 10, 100, 1000][1 + greatest(n, 0)]::HUGEINT;

-- In whole numbers, for a division of decimals goes through DOUBLE; half away from zero, once.
CREATE MACRO lake.rounded_quotient(n, divisor) AS sign(n) * ((2 * abs(n) + divisor) // (2 * divisor));

CREATE MACRO lake.converted(amount, source, target, taken) AS lake.rounded_quotient(
    amount::HUGEINT * taken.times * lake.power_of_ten(minor_unit_digits(target) - minor_unit_digits(source)),
    taken.by * lake.power_of_ten(minor_unit_digits(source) - minor_unit_digits(target))
);

CREATE MACRO main.to_currency(amount, source, target, on_day) AS (
    CASE
        WHEN regexp_matches(typeof(amount), 'DOUBLE|FLOAT|, *[1-9]')
        THEN error('to_currency takes whole minor units and gives such: current, not current_amount')
        WHEN lower(source) = lower(target) THEN amount
        ELSE lake.converted(amount, source, target, lake.rate_taken(source, target, on_day))
    END
)::DECIMAL(38, 0);

CREATE MACRO main.rate_day(source, target, on_day) AS lake.rate_taken(source, target, on_day).day;

COMMENT ON COLUMN lake.rates.day IS 'From which day it holds, until the next one of the pair.';
COMMENT ON COLUMN lake.rates.from_currency IS 'ISO code in lower case: one of these …';
COMMENT ON COLUMN lake.rates.to_currency IS '… in these, ISO code in lower case.';
COMMENT ON COLUMN lake.rates.rate IS 'How many major units of `to_currency` one major unit of `from_currency` is.';
COMMENT ON COLUMN main.rates.day IS 'From which day it holds, until the next one of the pair.';
COMMENT ON COLUMN main.rates.from_currency IS 'ISO code in lower case: one of these …';
COMMENT ON COLUMN main.rates.to_currency IS '… in these, ISO code in lower case.';
COMMENT ON COLUMN main.rates.rate IS 'How many major units of `to_currency` one major unit of `from_currency` is.';
COMMENT ON MACRO lake.rate_taken IS 'The rate between two currencies, by what an amount is multiplied and divided: the last given, either way, for the day or one before; null where there is none.';
COMMENT ON MACRO lake.power_of_ten IS 'By what minor units are multiplied that have n decimals more.';
COMMENT ON MACRO lake.rounded_quotient IS 'n / divisor as a whole number, half away from zero.';
COMMENT ON MACRO lake.converted IS 'Minor units of one currency in those of another, by a rate of rate_taken.';
COMMENT ON MACRO main.to_currency IS
'An amount in minor units of `source`, in those of `target`, by the last rate that `fincon rates` was given for the day or one before, in whichever direction that is newer; null where there is none. Exact, rounded once, half away from zero.';
COMMENT ON MACRO main.rate_day IS 'The day of the rate that `to_currency` takes; null where there is none, and where none is needed.';
