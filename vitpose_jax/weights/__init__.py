"""Reading weights from any source, mapping them to our parameters, and writing them."""

from vitpose_jax.weights.forecaster import load_forecaster, save_forecaster
from vitpose_jax.weights.loading import load_backbone, load_pose_model, load_weights_into
from vitpose_jax.weights.native import save_pose_model

__all__ = [
    "load_backbone",
    "load_forecaster",
    "load_pose_model",
    "load_weights_into",
    "save_forecaster",
    "save_pose_model",
]
