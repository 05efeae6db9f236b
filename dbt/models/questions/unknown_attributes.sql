SELECT * FROM {{ source('fincon', 'unknown_attributes') }}
