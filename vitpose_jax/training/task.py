"""What the engine needs to know about a training problem, and the functions of a task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol

import ml_collections
import numpy as np

from vitpose_jax.files.fingerprint import Fingerprint
from vitpose_jax.training.state import Model
from vitpose_jax.training.step import LossFunction


class BatchIterator(Protocol):
    """Endless batches, with a JSON-serialisable position."""

    def __next__(self) -> Mapping[str, np.ndarray]: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any) -> None: ...


class Batches(Protocol):
    """Training batches: dictionaries of arrays that hold this process's rows."""

    def __iter__(self) -> BatchIterator: ...


@dataclass(frozen=True)
class Problem(Generic[Model]):
    """A task with the data and the model of one configuration, ready for training.

    Attributes:
        model: with its initial weights; parameters are identified by dotted names.
        model_config: JSON-serialisable; enough to rebuild the model, with the run's configuration.
        loss_fn: may update the model's batch statistics. 64-bit integers of a batch are not passed.
        train_batches: the training data.
        train_size: samples in an epoch.
        evaluate: returns the model's metrics, in inference mode, on the validation data. Every
            process calls it.
        metric: the metric that decides which checkpoint is best.
        maximize: whether a higher metric is better.
        draw: returns a uint8 (H, W, 3) picture of predictions on fixed validation samples, or None.
        report: called with the run's folder when training is done.
        samples: what the rows of a batch are, for the progress bar.
        data: fingerprints of the data, by split, so that a run is not resumed on changed data
            unnoticed.
        id_key: the entry of a batch that identifies its rows in messages.
    """

    model: Model
    model_config: Mapping[str, Any]
    loss_fn: LossFunction[Model]
    train_batches: Batches
    train_size: int
    evaluate: Callable[[Model], dict[str, float]]
    metric: str
    maximize: bool = True
    draw: Callable[[Model], np.ndarray | None] = lambda model: None
    report: Callable[[Path], object] = lambda folder: None
    samples: str = "people"
    data: Mapping[str, Fingerprint] = field(default_factory=dict)
    id_key: str = "image_id"


class Task(Protocol[Model]):
    """A kind of training problem. The modules that implement it are listed in `tasks.run`."""

    def complete(self, config: ml_collections.ConfigDict) -> None:
        """Make sure that data and weights are there, and give the model the weights' shape.

        UserError if something is missing, with a message for each.
        """

    def build_problem(
        self, config: ml_collections.ConfigDict, *, initialize: bool = True
    ) -> Problem[Model]:
        """Open the data and build the model; UserError on mistakes in the configuration.

        `initialize`: load the weights to start from, which a run that resumes does not need.
        """

    def build_model(
        self, config: ml_collections.ConfigDict, model_config: Mapping[str, Any]
    ) -> Model:
        """Build the model of a run (`Problem.model_config`) with random weights, without data."""

    def save_model(self, model: Model, folder: Path) -> None:
        """Write a folder of weights."""

    def evaluate(self, config: ml_collections.ConfigDict, folder: Path) -> dict[str, float]:
        """Evaluate the run in `folder`, or given weights; print and write the metrics."""
