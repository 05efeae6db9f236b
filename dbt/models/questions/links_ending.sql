SELECT * FROM {{ source('fincon', 'links_ending') }}
