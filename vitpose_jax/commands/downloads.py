"""Downloading what a command needs before it starts, and saying how large it is."""

import sys
from functools import partial
from pathlib import Path

from vitpose_jax.errors import together
from vitpose_jax.weights.hub import fetch, missing_files
from vitpose_jax.weights.zoo import DETECTORS, Published, published_pose_model


def bring(weights: str, detector: str | None) -> None:
    """Download the published models among these two names, if they are not here yet.

    Raises:
        UserError: with a message for each that cannot be downloaded.
    """
    models = [None if Path(weights).exists() else published_pose_model(weights)]
    models += [DETECTORS.get(detector or "")]
    together(*(partial(_bring, model) for model in models if model is not None))


def _bring(model: Published) -> None:
    if missing_files(model):
        size = f"{model.network}, {model.megabytes} MB"
        print(f"downloading {model.name} ({size}) from the Hugging Face hub, once", file=sys.stderr)
    fetch(model)
