SELECT * FROM {{ source('fincon', 'running_balance') }}
