"""What `vitpose train`, `vitpose eval` and `python -m vitpose_jax.main` do with what was typed."""

import logging
from collections.abc import Sequence
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.tasks import run
from vitpose_jax.tasks.configuration import (
    configuration_names,
    make_configuration,
    run_configuration,
)
from vitpose_jax.training import workdir

log = logging.getLogger(__name__)

FINE_TUNING = "vitpose"
"""The configuration where only data or weights are named."""
RUNS = Path("runs")
"""Where runs without a folder of their own are kept, below the working directory."""


def train(
    name: str,
    changes: Sequence[str],
    folder: str | None = None,
    *,
    data: str = "",
    weights: str = "",
) -> None:
    """Train what a configuration describes, or go on if its run is in the folder.

    Args:
        name, changes, data, weights: as for `make_configuration`.
        folder: the run's; by default it has the configuration's name, below `RUNS`.

    Raises:
        UserError: as for `make_configuration` and `run.train`.
    """
    place = _folder(folder, _stem(name))
    run.train(make_configuration(name, changes, data=data, weights=weights), place)


def resume(folder: str, changes: Sequence[str]) -> None:
    """Go on with a run by its own settings; of these, its length and intervals may change.

    Raises:
        UserError: it is no run, it may not change so, or as for `run.train`.
    """
    place = _folder(folder)
    run.train(run_configuration(place, changes), place)


def evaluate_run(folder: str, changes: Sequence[str], data: str = "") -> None:
    """Evaluate a run's best checkpoint, on its own validation data or other data."""
    place = _folder(folder)
    config = run_configuration(place, changes)
    if data:
        config["val_data" if "val_data" in config else "data"] = data
    run.evaluate(config, place)


def evaluate(
    name: str,
    changes: Sequence[str],
    folder: str | None = None,
    *,
    data: str = "",
    weights: str = "",
) -> None:
    """Evaluate on a configuration's data: weights, or else the run in the folder.

    Raises:
        UserError: `weights` are given, but there is a run in the folder.
    """
    place = _folder(folder, "eval" if weights else _stem(name))
    if weights and workdir.is_claimed(place):
        raise UserError(
            f"{place} is a run, whose own evaluation would be overwritten; choose another --workdir"
        )
    run.evaluate(make_configuration(name, changes, data=data, weights=weights), place)


def choices() -> str:
    """Return the configurations that can be named, in words."""
    return f"one of {', '.join(configuration_names())} (NAME or NAME:ARGUMENT), or a file NAME.py"


def _folder(folder: str | None, default: str = "") -> Path:
    """The folder that was typed, or that of the default's name, which is logged."""
    if folder is None:
        log.info("the folder of the run is %s (--workdir chooses another)", RUNS / default)
        return RUNS / default
    if "://" in folder:
        raise UserError(
            f"--workdir={folder}: a run needs a folder that can be locked; mount the bucket, or "
            "choose a local one"
        )
    return Path(folder).expanduser()


def _stem(name: str) -> str:
    return Path(name.split(":", 1)[0]).stem
