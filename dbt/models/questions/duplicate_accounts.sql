SELECT * FROM {{ source('fincon', 'duplicate_accounts') }}
