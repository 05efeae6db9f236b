SELECT * FROM {{ source('fincon', 'transaction_monthly') }}
