SELECT * FROM {{ source('fincon', 'shared_owners') }}
