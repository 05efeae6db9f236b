SELECT table_name AS on_what, attribute, any_value(example_type) AS kind, sum(objects)::BIGINT AS objects,
    min(first_seen) AS since
FROM unknown_attributes GROUP BY ALL ORDER BY ALL
