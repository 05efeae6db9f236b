-- What `fincon alert` told, as it stood in alerts.json when the views were made.
CREATE TABLE lake.alerts_told (alert VARCHAR, key_hash VARCHAR, receiver VARCHAR, first_told_at TIMESTAMPTZ);

CREATE VIEW main.alerts_told AS FROM lake.alerts_told;

COMMENT ON TABLE lake.alerts_told IS 'What was told, as it was when the views were made.';
COMMENT ON VIEW main.alerts_told IS 'One row per row that an alert finds and receiver that was told of it, as of when the views were made; what is no more is forgotten, and told anew when it comes back.';
COMMENT ON COLUMN lake.alerts_told.alert IS 'The name of the alert: its file, or failed_checks.';
COMMENT ON COLUMN lake.alerts_told.key_hash IS 'A hash of the row''s key, which may name an account.';
COMMENT ON COLUMN lake.alerts_told.receiver IS 'Whom: the kind of address and a hash of it; empty = all there were, before they were told apart.';
COMMENT ON COLUMN lake.alerts_told.first_told_at IS 'When (UTC).';
COMMENT ON COLUMN main.alerts_told.alert IS 'The name of the alert: its file, or failed_checks.';
COMMENT ON COLUMN main.alerts_told.key_hash IS 'A hash of the row''s key, which may name an account.';
COMMENT ON COLUMN main.alerts_told.receiver IS 'Whom: the kind of address and a hash of it; empty = all there were, before they were told apart.';
COMMENT ON COLUMN main.alerts_told.first_told_at IS 'When (UTC).';
