"""From a run's folder back to a model, and on to a weights folder."""

import logging
from pathlib import Path

import ml_collections
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.training import workdir
from vitpose_jax.training.checkpoints import read_parameters
from vitpose_jax.training.state import merge_model, split_model
from vitpose_jax.training.task import task_module

log = logging.getLogger(__name__)


def load_trained(folder: str | Path, which: str = "best") -> tuple[int, nnx.Module]:
    """(step, model) of a run's checkpoint; needs neither the data nor the run's devices.

    which: "best" by the run's metric, "latest", or a step. A moving average, where the run keeps
    one, is what counts. Raises UserError when there is no such run or checkpoint.
    """
    folder = Path(folder).expanduser()
    config, about = workdir.read_config(folder)
    model = task_module(config.task).build_model(config, about["model"])
    return restore_into(model, folder, which, about)


def restore_into(model: nnx.Module, folder: Path, which: str, about: dict):
    """(step, the model with a checkpoint's parameters in place of its own)."""
    graph, parameters, other = split_model(model)
    step, arrays = read_parameters(
        folder / workdir.CHECKPOINT_FOLDER, which, about["metric"], about["maximize"]
    )
    for name, value in (parameters | other).items():
        if name not in arrays or arrays[name].shape != value.shape:
            raise UserError(f"checkpoint {step} in {folder} does not fit the model at {name!r}")
    return step, merge_model(graph, {name: arrays[name] for name in graph.paths})


def export_run(folder: str | Path, out: str | Path, which: str = "best") -> int:
    """Write a run's model as a weights folder, for `--weights`; returns the checkpoint's step."""
    folder = Path(folder).expanduser()
    config: ml_collections.ConfigDict = workdir.read_config(folder)[0]
    step, model = load_trained(folder, which)
    task_module(config.task).save_model(model, Path(out).expanduser())
    return step
