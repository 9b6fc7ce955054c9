"""Reading weights from any source, mapping them to our parameters, and writing them.

The names are imported on first use: the table of published models and downloads need no JAX.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "forecaster": ("load_forecaster", "save_forecaster"),
    "loading": ("load_backbone", "load_pose_model", "load_weights_into"),
    "native": ("save_pose_model",),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
