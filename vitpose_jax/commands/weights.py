"""What `--weights` and `--detector` name, brought here before a command starts."""

import sys
from functools import partial
from pathlib import Path

from vitpose_jax.errors import together
from vitpose_jax.weights.hub import fetch, missing_files
from vitpose_jax.weights.sources import is_run
from vitpose_jax.weights.zoo import DETECTORS, Published, published_pose_model


def open_weights(weights: str, detector: str | None) -> str:
    """What to load the pose model from: a training run's best checkpoint is exported to the cache.

    Published models among the two names are downloaded, saying how large they are.

    Raises:
        UserError: with a message for each that cannot be downloaded; or the run cannot be used.
    """
    models = [None if Path(weights).exists() else published_pose_model(weights)]
    models += [DETECTORS.get(detector or "")]
    together(*(partial(_bring, model) for model in models if model is not None))
    if not is_run(weights):
        return weights
    from vitpose_jax.tasks.run import pose_weights

    return pose_weights(weights)


def _bring(model: Published) -> None:
    if missing_files(model):
        size = f"{model.network}, {model.megabytes} MB"
        print(f"downloading {model.name} ({size}) from the Hugging Face hub, once", file=sys.stderr)
    fetch(model)
