SELECT * FROM {{ source('fincon', 'relink_times') }}
