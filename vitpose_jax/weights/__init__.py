"""Weights on disk and in the wild: reading, mapping, writing."""
