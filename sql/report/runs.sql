SELECT finished_at AS finished, mode, sessions_seen AS sessions, accounts_seen AS accounts, rows_added, requests, rejected
FROM runs ORDER BY runs.finished_at DESC
