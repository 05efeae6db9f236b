SELECT * FROM {{ source('fincon', 'account_changes') }}
