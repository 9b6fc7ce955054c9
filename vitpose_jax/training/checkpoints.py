"""Checkpoints of a run: written in the background, whole or not at all, best and latest kept."""

import json
import logging
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_object
from vitpose_jax.files.writing import make_folder, write_json
from vitpose_jax.training.sharding import gather_rows
from vitpose_jax.training.state import Parameters, TrainState
from vitpose_jax.training.step import all_finite

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints below one folder, each with the train state and the position in the data.

    A save that fails (disk full) is reported and leaves the earlier checkpoints alone; the run may
    go on. The newest is kept, and the best by `metric` of those that `rate` gave metrics.
    """

    def __init__(self, folder: Path, *, metric: str, maximize: bool = True) -> None:
        self.folder = Path(folder).absolute()
        self._metric, self._maximize = metric, maximize
        self.failure: str | None = None
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self, cleanup_tmp_directories=True
        )
        return ocp.CheckpointManager(self.folder, options=options)

    def should_preserve(self, checkpoints: Sequence, *, context: Any) -> list[bool]:
        """What orbax asks at every save: which checkpoints to keep."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {max(steps), _best(self.folder, steps, self._metric, self._maximize)}
        return [step in kept for step in steps]

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, data: Any) -> bool:
        """Start writing; True when under way (see `wait` for its success), or there already.

        data: the position in the training data, JSON-able. Raises UserError, and writes nothing,
        when a parameter is not finite.
        """
        self.wait()
        if not all_finite((state.trainable, state.other)):
            raise UserError(
                f"step {step}: the parameters are not finite; the last good checkpoint is "
                f"{self.describe_latest()}"
            )
        if step == self.latest:
            return True
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state._asdict()),
                    data=ocp.args.JsonSave({"iterators": _of_all_processes(data)}),
                ),
            )
        except Exception as error:
            return self._failed(step, error)
        return True

    def rate(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep an evaluation with its checkpoint, where that could be written."""
        if self.wait() and step == self.latest and jax.process_index() == 0:
            try:
                make_folder(_metrics_file(self.folder, step).parent)
                write_json(_metrics_file(self.folder, step), metrics)
            except UserError as error:
                self.failure = str(error)
                log.error("the metrics of checkpoint %d are missing: %s", step, error)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"checkpoint {step} rated")

    def metrics(self, step: int) -> dict[str, float]:
        """What `rate` kept; empty where the checkpoint is not there or was not evaluated."""
        return _read_metrics(self.folder, step)

    def wait(self) -> bool:
        """Wait for what is being written; False, with a warning, when it failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            return self._failed("in progress", error)
        return True

    def _failed(self, step: int | str, error: Exception) -> bool:
        """Orbax raises what the file system or tensorstore raised; all of it means: not saved."""
        if jax.process_count() > 1:  # the others are not to wait for this one
            raise UserError(f"checkpoint {step} could not be written: {error}") from error
        self.failure = str(error).strip().splitlines()[-1][:300]
        self._manager = self._open()  # forgets, and removes, what is not whole
        for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover, ignore_errors=True)
        log.error(
            "checkpoint %s could not be written (%s); the last good one is %s",
            *(step, self.failure, self.describe_latest()),
        )
        return False

    def describe_latest(self) -> str:
        """For messages."""
        return "none" if self.latest is None else f"step {self.latest} in {self.folder}"

    def restore(self, state: TrainState, step: int | None = None) -> tuple[TrainState, Any]:
        """(state, position in the data) of a checkpoint, the newest by default.

        `state` says how arrays are shaped and placed. Raises UserError when it cannot be read.
        """
        step = self.latest if step is None else step
        try:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict())
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
                ),
            )
        except Exception as error:
            raise _unreadable(self.folder / str(step), error) from error
        states = found.data["iterators"]
        if len(states) != jax.process_count() and any(s != states[0] for s in states):
            raise UserError(
                f"checkpoint {step} was written by {len(states)} processes whose data cannot be "
                f"dealt out anew to {jax.process_count()}: use as many processes as before"
            )
        position = states[jax.process_index() if len(states) == jax.process_count() else 0]
        return TrainState(**found.state), position

    def close(self) -> None:
        """Wait for what is being written and let go."""
        self.wait()
        self._manager.close()


def _of_all_processes(data: Any) -> list[Any]:
    """Every process's JSON-able value, in order."""
    text = json.dumps(data).encode()
    size = int(gather_rows(np.array([len(text)])).max())
    rows = gather_rows(np.frombuffer(text.ljust(size), np.uint8)[None])
    return [json.loads(row.tobytes()) for row in rows]


def read_parameters(folder: Path, which: str = "best", metric: str = "", maximize: bool = True):
    """(step, arrays by dotted name) of a finished run's checkpoint, on any machine.

    which: "best" by metric (else the latest), "latest", or a step. The moving average, where
    there is one, takes the place of the trained parameters.
    Raises UserError when there is no such checkpoint.
    """
    folder = Path(folder).absolute()
    found = (
        {int(p.name): p for p in folder.glob("*") if p.name.isdigit()} if folder.is_dir() else {}
    )
    if not found:
        raise UserError(f"{folder} holds no checkpoint")
    step = _choose(folder, sorted(found), which, metric, maximize)
    handler = ocp.PyTreeCheckpointer()
    path = found[step] / "state"
    try:
        tree = handler.metadata(path).item_metadata.tree
        restore = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = handler.restore(path, restore_args=restore)
    except Exception as error:  # of many kinds, as in `Checkpoints.restore`
        raise _unreadable(found[step], error) from error
    arrays: Parameters = {}
    for part in ("trainable", "frozen", "other", "ema"):
        arrays.update(state.get(part) or {})
    return step, arrays


def _unreadable(checkpoint: Path, error: Exception) -> UserError:
    return UserError(
        f"checkpoint {checkpoint} cannot be read ({error}); remove that folder to go on from the "
        "one before it, if any"
    )


def _choose(folder: Path, steps: list[int], which: str, metric: str, maximize: bool) -> int:
    if which == "latest":
        return max(steps)
    if which == "best":
        best = _best(folder, steps, metric, maximize)
        return max(steps) if best is None else best
    if not which.isdigit() or int(which) not in steps:
        raise UserError(f"no checkpoint {which!r}; there are: {steps}")
    return int(which)


def _best(folder: Path, steps: Iterable[int], metric: str, maximize: bool) -> int | None:
    """The step whose metric is best, the last of equals; None where no step has a number."""
    found = {step: _read_metrics(folder, step).get(metric, math.nan) for step in sorted(steps)}
    sign = 1 if maximize else -1
    scores = {step: sign * value for step, value in found.items() if math.isfinite(value)}
    return max(scores, key=lambda step: (scores[step], step), default=None)


def _metrics_file(folder: Path, step: int) -> Path:
    return folder / str(step) / "metrics" / "metrics"


def _read_metrics(folder: Path, step: int) -> dict[str, float]:
    file = _metrics_file(folder, step)
    return read_object(file) if file.exists() else {}
