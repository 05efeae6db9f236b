SELECT * FROM {{ source('fincon', 'account_holders') }}
