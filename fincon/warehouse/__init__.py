"""Publish the views of the lake, and show what they say."""
