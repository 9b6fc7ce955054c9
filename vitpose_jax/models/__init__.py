"""Flax NNX modules: arrays in, arrays out."""
