SELECT * FROM {{ source('fincon', 'holders_without_fresh_balance') }}
