SELECT * FROM {{ source('fincon', 'underwriting_holder_balances') }}
