SELECT * FROM {{ source('fincon', 'institutions') }}
