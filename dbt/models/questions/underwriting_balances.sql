SELECT * FROM {{ source('fincon', 'underwriting_balances') }}
