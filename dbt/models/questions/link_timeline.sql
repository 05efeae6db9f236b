SELECT * FROM {{ source('fincon', 'link_timeline') }}
