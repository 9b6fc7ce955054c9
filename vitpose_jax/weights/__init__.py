"""Weights on disk and in the wild: reading, mapping, writing."""

from vitpose_jax.weights.loading import (
    load_backbone,
    load_backbone_weights,
    load_pose_model,
    load_weights_into,
    save_pose_model,
)

__all__ = [
    "load_backbone",
    "load_backbone_weights",
    "load_pose_model",
    "load_weights_into",
    "save_pose_model",
]
