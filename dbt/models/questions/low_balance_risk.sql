SELECT * FROM {{ source('fincon', 'low_balance_risk') }}
