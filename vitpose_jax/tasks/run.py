"""What the command line does with a configuration or a run: train, evaluate, export."""

import contextlib
import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.files.cache import cache_folder
from vitpose_jax.tasks import forecasting, pose, scenes
from vitpose_jax.training import loop, workdir
from vitpose_jax.training.checkpoints import best_checkpoint, has_checkpoint, restore_model
from vitpose_jax.training.peers import watched
from vitpose_jax.training.task import Task
from vitpose_jax.weights.sources import is_run

log = logging.getLogger(__name__)

TASKS: dict[str, Task[Any]] = {"pose": pose, "forecast": forecasting, "scenes": scenes}
"""The choices of `config.task`."""


def task_of(config: ml_collections.ConfigDict) -> Task[Any]:
    """Return the task that a configuration names; UserError if there is no such task."""
    name = config.get("task")
    if name not in TASKS:
        raise UserError(f"config.task is {name!r}; choose one of {', '.join(TASKS)}")
    return TASKS[name]


def train(config: ml_collections.ConfigDict, folder: Path) -> dict[str, float]:
    """Train to the end, resuming the run in `folder` if any; return the last evaluation.

    Raises:
        UserError: a mistake in the configuration or the data, or as for `loop.train`.
    """
    workdir.check_changes(folder, config)
    problem = task_of(config).build_problem(config, initialize=not has_checkpoint(folder))
    metrics = loop.train(problem, config, folder)
    problem.report(folder)
    if jax.process_index() == 0:
        log.info("done: log, pictures and curves are in %s", folder)
        log.info("weights for --weights: vitpose export %s --out FOLDER", folder)
    return metrics


def evaluate(config: ml_collections.ConfigDict, folder: Path) -> dict[str, float]:
    """Evaluate the run in `folder`, or weights; print the metrics and write evaluation.json.

    Raises:
        UserError: there is nothing to evaluate, or it does not fit the data.
    """
    return task_of(config).evaluate(config, folder)


def load_trained(folder: str | Path, which: str = "best") -> tuple[int, nnx.Module]:
    """Return (step, model) of a run's checkpoint, without needing its data or devices.

    `which` is "best" by the run's metric, "latest", or a step.

    Raises:
        UserError: there is no such run or checkpoint.
    """
    folder = Path(folder).expanduser()
    run = workdir.read_run(folder)
    model = task_of(run.config).build_model(run.config, run.model_config)
    return restore_model(model, folder, which)


def export_run(folder: str | Path, out: str | Path, which: str = "best") -> int:
    """Write a run's model as a folder of weights; return the checkpoint's step.

    Raises:
        UserError: as for `load_trained`, or the folder cannot be written.
    """
    step, model = load_trained(folder, which)
    config = workdir.read_run(Path(folder).expanduser()).config
    task_of(config).save_model(model, Path(out).expanduser())
    return step


def pose_weights(source: str) -> str:
    """What to load a pose model from: of a training run, a copy of its best checkpoint's weights.

    The copy is in the user's cache folder. Anything else is returned as it is.

    Raises:
        UserError: the run is of another task, or its best checkpoint cannot be used.
    """
    if not is_run(source):
        return source
    folder = Path(source).expanduser()
    task = workdir.read_run(folder).config.get("task")
    if task != "pose":
        raise UserError(f"{source} is the run of a {task} model, which finds no keypoints")
    checkpoint = best_checkpoint(folder)
    stamp = f"{checkpoint.resolve()} {checkpoint.stat().st_mtime_ns}"
    copy = cache_folder("exported") / hashlib.sha256(os.fsencode(stamp)).hexdigest()[:20]
    if not (copy / "config.json").exists():
        export_run(folder, copy, checkpoint.name)
    return str(copy)


def log_plainly() -> None:
    """Log to stderr with the time of day; other libraries log warnings only.

    Orbax's messages about a checkpoint that it cannot write (through absl, asyncio, warnings and
    its threads) are silenced: it also raises these errors, and we report them.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for library in ("absl", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    logging.getLogger("vitpose_jax").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = _print_unraisable


def _print_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Print it as usual, unless a thread of tensorstore's comes too late with its result."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


@contextlib.contextmanager
def processes(
    distributed: bool, coordinator: str | None, count: int | None, index: int | None
) -> Iterator[None]:
    """Context in which this is process `index` of `count`; TPU pods and Slurm need no numbers.

    When one of them is lost, the others end (see `peers.watched`). Without `distributed`, this is
    the only one.

    Raises:
        UserError: the processes cannot connect through the coordinator's host:port.
    """
    if not distributed:
        yield
        return
    platforms = jax.config.jax_platforms  # type: ignore[attr-defined]  # made at run time
    if platforms == "cpu" or (coordinator or "").startswith("localhost"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed: {error} (give --coordinator=host:port, --num_processes, --process_id)"
        ) from error
    with watched(coordinator):
        yield
