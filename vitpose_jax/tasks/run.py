"""What the command line starts: a training run, or an evaluation."""

import logging
import sys
from pathlib import Path
from typing import Any

import jax
import ml_collections

from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import make_folder, write_json
from vitpose_jax.tasks.export import restore_into
from vitpose_jax.training import loop, workdir
from vitpose_jax.training.task import task_module

log = logging.getLogger(__name__)


def log_plainly() -> None:
    """Our messages on stderr with the time of day; of the libraries', only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("vitpose_jax").setLevel(logging.INFO)


def join_processes(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Become one of several processes; on TPU pods and under Slurm nothing need be said."""
    if jax.config.jax_platforms == "cpu" or (coordinator or "").startswith("localhost"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed: {error} (give --coordinator=host:port, --num_processes, --process_id)"
        ) from error


def train(config: ml_collections.ConfigDict, folder: str | Path) -> dict[str, float]:
    """Train to the end, or on; returns the last evaluation."""
    folder = Path(folder)
    task = task_module(config.task).build_task(config)
    metrics = loop.train(task, config, folder)
    report = getattr(task_module(config.task), "report", None)
    if report is not None:
        report(config, folder)
    if jax.process_index() == 0:
        log.info("done: log, pictures and curves are in %s", folder)
        log.info("weights for --weights: vitpose export %s --out FOLDER", folder)
    return metrics


def evaluate(config: ml_collections.ConfigDict, folder: str | Path) -> dict[str, float]:
    """Evaluate the run's best checkpoint; without a run, the weights `config.init_from`.

    Prints the figures and writes them to evaluation.json in the folder.
    Raises UserError when there is neither, they do not fit, or the file cannot be written.
    """
    folder = Path(folder)
    if hasattr(task_module(config.task), "report"):  # a task that compares with other forecasts
        return task_module(config.task).report(config, folder)
    config.eval.per_keypoint = True
    about: dict[str, Any] = {}
    if (folder / workdir.CONFIG_FILE).exists():
        there, about = workdir.read_config(folder)
        _check_same_model(there, config, folder)
    elif not config.get("init_from"):
        raise UserError(f"nothing to evaluate: no run in {folder}, and config.init_from is empty")
    build_evaluation = task_module(config.task).build_evaluation
    model, evaluation = build_evaluation(config, about.get("model"))
    source = config.init_from
    if about:
        step, model = restore_into(model, folder, "best", about)
        source = f"step {step} of {folder}"
    make_folder(folder)
    metrics = evaluation.evaluate(model)
    if jax.process_index() == 0:
        print(f"{source}:")
        for name, value in metrics.items():
            print(f"  {name:<24}{value:8.4f}")
        report = {"model": str(source), "metrics": metrics}
        write_json(folder / workdir.EVALUATION_FILE, report, indent=2)
    return metrics


def _check_same_model(
    there: ml_collections.ConfigDict, here: ml_collections.ConfigDict, folder: Path
) -> None:
    values = [{"task": c.task, "model": workdir.plain(c)["model"]} for c in (there, here)]
    changes = workdir.differences(*values)
    if changes:
        raise UserError(
            f"{folder} was trained with another model: {'; '.join(changes)}. "
            "Give the same options as in training"
        )
