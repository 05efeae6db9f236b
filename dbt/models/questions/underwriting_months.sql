SELECT * FROM {{ source('fincon', 'underwriting_months') }}
