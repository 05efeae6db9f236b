SELECT * FROM {{ source('fincon', 'cash_flow_daily') }}
