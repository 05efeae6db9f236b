"""Lake: the Delta tables."""
