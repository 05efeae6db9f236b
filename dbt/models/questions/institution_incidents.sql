SELECT * FROM {{ source('fincon', 'institution_incidents') }}
