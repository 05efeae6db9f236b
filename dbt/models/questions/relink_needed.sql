SELECT * FROM {{ source('fincon', 'relink_needed') }}
