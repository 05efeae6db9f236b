SELECT * FROM {{ source('fincon', 'balance_daily') }}
