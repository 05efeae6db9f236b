-- The amount $minor in major units, by a multiplication of decimals, which is exact; a division would go through DOUBLE.
CASE minor_unit_digits(currency)
    WHEN 0 THEN $minor::DECIMAL(19, 0)::DECIMAL(38, 4)
    WHEN 2 THEN ($minor::DECIMAL(19, 0) * 0.01::DECIMAL(3, 2))::DECIMAL(38, 4)
    WHEN 3 THEN ($minor::DECIMAL(19, 0) * 0.001::DECIMAL(4, 3))::DECIMAL(38, 4)
END AS $major
