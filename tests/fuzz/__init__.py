"""Spoiled pages into `transforms.flatten`: it never crashes, and every object is in a table or in rejects."""
