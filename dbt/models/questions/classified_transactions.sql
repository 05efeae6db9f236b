SELECT * FROM {{ source('fincon', 'classified_transactions') }}
