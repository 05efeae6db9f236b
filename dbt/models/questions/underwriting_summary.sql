SELECT * FROM {{ source('fincon', 'underwriting_summary') }}
