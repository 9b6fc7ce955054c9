"""The folder of a run: a record of how it was made, and the check that it is the same run."""

import json
import logging
from collections.abc import Mapping
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

log = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
EVALUATION_FILE = "evaluation.json"
CHECKPOINT_FOLDER = "checkpoints"
ALLOWANCE = "allow_changed_data"
"""The entry of a configuration that may differ when a run is resumed."""


@dataclass(frozen=True)
class RunRecord:
    """How a run was made.

    Attributes:
        config: its configuration.
        model_config, metric, maximize: as in its `Problem`.
        data: likewise, as JSON; empty in runs of older versions.
    """

    config: ml_collections.ConfigDict
    model_config: dict[str, Any]
    metric: str
    maximize: bool
    data: dict[str, dict[str, Any]]


def claim(workdir: Path, config: ml_collections.ConfigDict, problem: Problem[Model]) -> None:
    """Record this run in the folder, or make sure that the folder belongs to it.

    Raises:
        UserError: it belongs to another configuration (the message lists the differences), its data
            have changed without `config.allow_changed_data`, or it cannot be written.
    """
    values, data = plain(config), {name: part.to_dict() for name, part in problem.data.items()}
    about = {
        "metric": problem.metric,
        "maximize": problem.maximize,
        "model": problem.model_config,
        "data": data,
    }
    if (workdir / CONFIG_FILE).exists():
        run = read_run(workdir)
        allowed = {ALLOWANCE: None}
        changes = differences(plain(run.config) | allowed, values | allowed)
        if changes:
            raise UserError(
                f"{workdir} belongs to another configuration: {'; '.join(changes)}. "
                "Choose another --workdir, or the same options as before"
            )
        if changed := _changed_data(run.data, data):
            words = f"{workdir}: the data have changed since this run began: {changed}"
            if not values.get(ALLOWANCE):
                raise UserError(
                    f"{words}. Choose another --workdir, restore the data, or continue anyway "
                    f"with --config.{ALLOWANCE}=True"
                )
            log.warning("%s; continuing with the new data", words)
            if jax.process_index() == 0:
                write_json(workdir / TASK_FILE, about, indent=2)
    elif jax.process_index() == 0:
        make_folder(workdir)
        write_json(workdir / TASK_FILE, about, indent=2)
        write_json(workdir / CONFIG_FILE, values, indent=2)


def _changed_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What has changed in the data, in words."""
    found = []
    for split, old in before.items():
        new = now.get(split, old)
        if old["samples"] != new["samples"]:
            found.append(f"{split} had {old['samples']} samples and has {new['samples']}")
        elif old != new:
            found.append(f"{split} still has {new['samples']} samples, but other contents")
    return ", ".join(found)


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
            raise UserError(f"{workdir} is not a training run: {file} is missing")
    values, about = (read_object(workdir / name) for name in (CONFIG_FILE, TASK_FILE))
    config = ml_collections.ConfigDict(values)
    try:
        return RunRecord(
            config, about["model"], about["metric"], about["maximize"], about.get("data", {})
        )
    except KeyError as error:
        raise UserError(f"{workdir / TASK_FILE}: {error} is missing") from None


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Return a configuration as nested plain values, as JSON would give them back."""
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
