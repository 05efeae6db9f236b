SELECT * FROM {{ source('fincon', 'refresh_streaks') }}
