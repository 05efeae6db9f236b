SELECT * FROM {{ source('fincon', 'holder_totals') }}
