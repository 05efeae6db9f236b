"""Pipeline: a sync's steps, and what else is done to a lake."""
