"""Rendered people, with nothing on disk."""
