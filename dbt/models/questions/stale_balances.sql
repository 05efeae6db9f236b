SELECT * FROM {{ source('fincon', 'stale_balances') }}
