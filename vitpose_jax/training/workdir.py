"""The folder of a run: what it was made by, and the check that it is the same run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_collections

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_object
from vitpose_jax.files.writing import make_folder, write_json
from vitpose_jax.training.state import Model
from vitpose_jax.training.task import Problem
from vitpose_jax.weights.sources import TASK_FILE

CONFIG_FILE = "config.json"
EVALUATION_FILE = "evaluation.json"
CHECKPOINT_FOLDER = "checkpoints"


@dataclass(frozen=True)
class RunRecord:
    """What a run was made by.

    Attributes:
        config: its configuration.
        model_config, metric, maximize: of its `Problem`.
    """

    config: ml_collections.ConfigDict
    model_config: dict[str, Any]
    metric: str
    maximize: bool


def claim(workdir: Path, config: ml_collections.ConfigDict, problem: Problem[Model]) -> None:
    """Make the folder this run's, or make sure that it is.

    Raises:
        UserError: another configuration made it (the message has the differences), or it cannot be
            written.
    """
    values = plain(config)
    if (workdir / CONFIG_FILE).exists():
        changes = differences(plain(read_run(workdir).config), values)
        if changes:
            raise UserError(
                f"{workdir} belongs to another configuration: {'; '.join(changes)}. "
                "Choose another --workdir, or the same options as before"
            )
    elif jax.process_index() == 0:
        make_folder(workdir)
        about = {
            "metric": problem.metric,
            "maximize": problem.maximize,
            "model": problem.model_config,
        }
        write_json(workdir / TASK_FILE, about, indent=2)
        write_json(workdir / CONFIG_FILE, values, indent=2)


def is_claimed(workdir: Path) -> bool:
    """Whether a run was started in this folder."""
    return (workdir / CONFIG_FILE).exists()


def read_run(workdir: Path) -> RunRecord:
    """Read what `claim` wrote.

    Raises:
        UserError: this is not the folder of a run, or its files are damaged.
    """
    for file in (workdir / CONFIG_FILE, workdir / TASK_FILE):
        if not file.exists():
            raise UserError(f"{workdir} is no training run: {file} is missing")
    values, about = (read_object(workdir / name) for name in (CONFIG_FILE, TASK_FILE))
    config = ml_collections.ConfigDict(values)
    try:
        return RunRecord(config, about["model"], about["metric"], about["maximize"])
    except KeyError as error:
        raise UserError(f"{workdir / TASK_FILE}: {error} is missing") from None


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Return nested plain values, as JSON gives them back."""
    return json.loads(config.to_json_best_effort())


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Describe what changed between two nested configurations, value by value."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in sorted(set(there) | set(here)):
            path = f"{name}.{key}" if name else key
            found += differences(there.get(key, "absent"), here.get(key, "absent"), path)
        return found
    return [] if there == here else [f"{name} was {there!r}, now {here!r}"]
