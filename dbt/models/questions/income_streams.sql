SELECT * FROM {{ source('fincon', 'income_streams') }}
