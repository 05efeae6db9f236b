SELECT * FROM {{ source('fincon', 'balance_backcast') }}
