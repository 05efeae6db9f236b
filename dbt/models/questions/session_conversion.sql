SELECT * FROM {{ source('fincon', 'session_conversion') }}
