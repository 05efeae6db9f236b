SELECT * FROM {{ source('fincon', 'balance_totals') }}
