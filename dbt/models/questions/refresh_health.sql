SELECT * FROM {{ source('fincon', 'refresh_health') }}
