SELECT * FROM {{ source('fincon', 'refreshable_now') }}
