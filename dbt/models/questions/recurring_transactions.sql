SELECT * FROM {{ source('fincon', 'recurring_transactions') }}
