"""ViTPose in JAX: human pose estimation, feature pyramids and motion forecasting.

The public names are imported on first use, so that `import vitpose_jax` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitpose_jax.errors import UserError
    from vitpose_jax.files.cache import enable_compilation_cache
    from vitpose_jax.files.pictures import load_image
    from vitpose_jax.inference.detector import PersonDetector
    from vitpose_jax.inference.draw import draw_people
    from vitpose_jax.inference.estimator import PoseEstimator
    from vitpose_jax.inference.person import Person, to_supervision
    from vitpose_jax.inference.smoothing import PoseSmoother
    from vitpose_jax.inference.tracking import Tracker
    from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton
    from vitpose_jax.models.decoders import DecoderConfig
    from vitpose_jax.models.forecaster import Forecaster, ForecasterConfig
    from vitpose_jax.models.neck_config import NeckConfig
    from vitpose_jax.models.pose import PoseConfig, PoseModel
    from vitpose_jax.models.vit import ViTConfig
    from vitpose_jax.weights.forecaster import load_forecaster, save_forecaster
    from vitpose_jax.weights.loading import load_pose_model
    from vitpose_jax.weights.native import save_pose_model

__version__ = "0.1.0"

__all__ = [
    "SKELETONS",
    "DecoderConfig",
    "Forecaster",
    "ForecasterConfig",
    "NeckConfig",
    "Person",
    "PersonDetector",
    "PoseConfig",
    "PoseEstimator",
    "PoseModel",
    "PoseSmoother",
    "Skeleton",
    "Tracker",
    "UserError",
    "ViTConfig",
    "draw_people",
    "enable_compilation_cache",
    "load_forecaster",
    "load_image",
    "load_pose_model",
    "save_forecaster",
    "save_pose_model",
    "to_supervision",
]

_HOMES = {
    "errors": ("UserError",),
    "files.cache": ("enable_compilation_cache",),
    "files.pictures": ("load_image",),
    "inference.detector": ("PersonDetector",),
    "inference.draw": ("draw_people",),
    "inference.estimator": ("PoseEstimator",),
    "inference.person": ("Person", "to_supervision"),
    "inference.smoothing": ("PoseSmoother",),
    "inference.tracking": ("Tracker",),
    "keypoints.skeletons": ("SKELETONS", "Skeleton"),
    "models.decoders": ("DecoderConfig",),
    "models.forecaster": ("Forecaster", "ForecasterConfig"),
    "models.neck_config": ("NeckConfig",),
    "models.pose": ("PoseConfig", "PoseModel"),
    "models.vit": ("ViTConfig",),
    "weights": ("load_forecaster", "load_pose_model", "save_forecaster", "save_pose_model"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
