"""What the training loop needs to know of a task; pose estimation and forecasting fill it in."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.training.step import LossFunction


@dataclass(frozen=True)
class Task:
    """One training problem.

    Attributes:
        model: with its initial weights. Its parameters are labelled by dotted name.
        model_config: JSON-able; with the run's configuration it is enough to build the model again.
        loss_fn: (model, device batch, key) -> (float32 loss, dict of float32 scalars). The model
            may update its batch statistics; the batch's 64-bit integers are not in it.
        train_batches: endless batches (dicts of numpy arrays, this process's rows), whose iterators
            have `get_state` and `set_state`.
        train_size: samples in an epoch.
        evaluate: model in inference use -> metrics (floats) on the validation data; every process
            calls it.
        metric: the name among these by which the best checkpoint is kept.
        maximize: whether more is better.
        draw: model -> uint8 (H, W, 3) picture of predictions on fixed validation samples, or None.
        samples: what one row of a batch is, for the progress bar.
        id_key: the entry of a batch that names its rows in messages.
    """

    model: nnx.Module
    model_config: Mapping[str, Any]
    loss_fn: LossFunction
    train_batches: Iterable[Mapping[str, np.ndarray]]
    train_size: int
    evaluate: Callable[[nnx.Module], dict[str, float]]
    metric: str
    maximize: bool = True
    draw: Callable[[nnx.Module], np.ndarray | None] = lambda model: None
    samples: str = "people"
    id_key: str = "image_id"


TASKS = {
    "pose": "vitpose_jax.tasks.pose",
    "forecast": "vitpose_jax.tasks.forecasting",
}
"""Modules with `build_task(config) -> Task`, `build_model(config, model_config) -> nnx.Module`
(random weights, no data needed) and `save_model(model, folder)` (writes a weights folder). To be
evaluated, `build_evaluation(config, trained)` gives (model, what has `evaluate(model)` -> metrics),
`trained` being the `model_config` of the run whose parameters the model is to take, or None; or
`report(config, folder)` does it all."""


def task_module(name: str) -> ModuleType:
    """The module of a task. Raises UserError when there is no such task."""
    if name not in TASKS:
        raise UserError(f"config.task is {name!r}; choose one of {', '.join(TASKS)}")
    return importlib.import_module(TASKS[name])
