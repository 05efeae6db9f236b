"""A local Stripe Financial Connections API: a world that is a pure function of a seed and a clock."""
