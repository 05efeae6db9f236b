"""Keep versions of objects in Delta tables."""
