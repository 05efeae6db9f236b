SELECT * FROM {{ source('fincon', 'account_balances') }}
