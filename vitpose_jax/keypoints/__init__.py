"""Skeletons, crops, heatmap encoding and decoding."""
