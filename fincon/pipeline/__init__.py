"""Run a sync step by step; erase from a lake, keep it small, and check it."""
