"""Syncs killed at random moments against an API that fails one time in five, with a reader attached throughout."""
