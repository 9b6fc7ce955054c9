"""Data sets and input pipelines (grain)."""
