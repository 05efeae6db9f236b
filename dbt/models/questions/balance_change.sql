SELECT * FROM {{ source('fincon', 'balance_change') }}
