-- Stripe sends attributes that this fincon does not know: they are kept in `extra`; look whether a newer one knows them.
SELECT table_name, attribute, sum(objects)::BIGINT AS objects, min(first_seen) AS first_seen,
    concat_ws(' ', table_name, attribute) AS key
FROM unknown_attributes
GROUP BY table_name, attribute;
