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
FREE = ("log_every", "eval_every", "checkpoint_every", "num_workers")
"""The entries of a configuration that may differ when a run is resumed, since they change nothing
that is learnt; so may `ALLOWANCE`."""
LENGTHS = ("steps", "epochs")
"""Those that may be raised."""


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
        UserError: it belongs to another configuration (the message lists the differences; a run may
            become longer, and `FREE` may change), its data have changed without
            `config.allow_changed_data`, or it cannot be written.
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
        check_changes(workdir, config)
        changed_values = _tell_changes(plain(run.config), values)
        if changed := _changed_data(run.data, data):
            words = f"{workdir}: the data have changed since this run began: {changed}"
            if not values.get(ALLOWANCE):
                raise UserError(
                    f"{words}. Choose another --workdir, restore the data, or continue anyway "
                    f"with config.{ALLOWANCE}=True"
                )
            log.warning("%s; continuing with the new data", words)
            if jax.process_index() == 0:
                write_json(workdir / TASK_FILE, about, indent=2)
        if changed_values and jax.process_index() == 0:
            write_json(workdir / CONFIG_FILE, values, indent=2)
    elif jax.process_index() == 0:
        make_folder(workdir)
        write_json(workdir / TASK_FILE, about, indent=2)
        write_json(workdir / CONFIG_FILE, values, indent=2)


def check_changes(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Make sure that the run in a folder, if any, may go on with this configuration.

    Raises:
        UserError: something has changed that may not: the run would be another one.
    """
    if not is_claimed(workdir):
        return
    before, now = plain(read_run(workdir).config), plain(config)
    kept = dict.fromkeys((ALLOWANCE, *FREE, *_longer(before, now)))
    if not (changes := differences(before | kept, now | kept)):
        return
    shorter = any(change.startswith(LENGTHS) for change in changes)
    raise UserError(
        f"{workdir} belongs to another configuration: {'; '.join(changes)}. "
        + ("A run can be made longer, not shorter. " if shorter else "")
        + "Choose another --workdir, or the same options as before"
    )


def _longer(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The entries `LENGTHS` that were set and have been raised."""
    return [name for name in LENGTHS if before.get(name) and before[name] < (now.get(name) or 0)]


def _tell_changes(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Log what has changed in the configuration of a run that is resumed; whether anything has."""
    for name in _longer(before, now):
        log.warning(
            "the run goes on: config.%s was %g and is now %g; from here, the learning rate follows "
            "the schedule of the longer run",
            *(name, before[name], now[name]),
        )
    changed = differences(before, now)
    for words in changed:
        if not words.startswith((*LENGTHS, ALLOWANCE)):
            log.warning("changed from here on: config.%s", words)
    return bool(changed)


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
    config = ml_collections.ConfigDict(_with_tuples(values)).lock()
    try:
        return RunRecord(
            config, about["model"], about["metric"], about["maximize"], about.get("data", {})
        )
    except KeyError as error:
        raise UserError(f"{workdir / TASK_FILE}: {error} is missing") from None


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples; configurations have no lists."""
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


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
