SELECT * FROM {{ source('fincon', 'balance_vs_transactions') }}
