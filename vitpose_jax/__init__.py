"""ViTPose in JAX: human pose estimation, feature pyramids and motion forecasting.

The names below are imported on first use, so that `import vitpose_jax` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitpose_jax.files.cache import enable_compilation_cache
    from vitpose_jax.inference.estimator import PoseEstimator
    from vitpose_jax.models.pose import PoseConfig, PoseModel
    from vitpose_jax.weights import load_pose_model, save_pose_model

__version__ = "0.1.0"

_HOMES = {
    "PoseConfig": "vitpose_jax.models.pose",
    "PoseEstimator": "vitpose_jax.inference.estimator",
    "PoseModel": "vitpose_jax.models.pose",
    "enable_compilation_cache": "vitpose_jax.files.cache",
    "load_pose_model": "vitpose_jax.weights",
    "save_pose_model": "vitpose_jax.weights",
}

__all__ = [
    "PoseConfig",
    "PoseEstimator",
    "PoseModel",
    "enable_compilation_cache",
    "load_pose_model",
    "save_pose_model",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitpose_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(list(globals()) + __all__)
