"""Checkpoints of a run: written atomically in the background; the best and the latest are kept."""

import contextlib
import itertools
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

from vitpose_jax.errors import UserError, first_line
from vitpose_jax.files.json_file import number, read_object
from vitpose_jax.files.writing import make_folder, write_json
from vitpose_jax.training import workdir
from vitpose_jax.training.checksums import damage, write_checksums
from vitpose_jax.training.failures import Failures
from vitpose_jax.training.metrics_log import evaluation_at
from vitpose_jax.training.optimizer import Parameters
from vitpose_jax.training.sharding import gather_rows, gather_values
from vitpose_jax.training.state import Model, TrainState, merge_model, split_model
from vitpose_jax.training.step import all_finite

log = logging.getLogger(__name__)

_DRAFTS = "*.orbax-checkpoint-tmp*"
"""Orbax's names for checkpoints that are still being written."""


class Checkpoints:
    """The checkpoints in a folder, each with the train state and the position in the data.

    Two are kept, in case one is damaged: the newest, and the best of those that were rated (or, if
    that is the newest or none was rated, the one before the newest). If a save fails (disk full),
    the error is logged and stored in `failure`; earlier checkpoints stay, so the run can go on.
    """

    def __init__(
        self, folder: Path, failures: Failures, *, metric: str, maximize: bool = True
    ) -> None:
        """Open the folder; `metric` decides which checkpoint is best."""
        self.folder = Path(folder).absolute()
        self._failures = failures
        self._metric, self._maximize = metric, maximize
        self.failure: str | None = None
        if jax.process_index() == 0:
            for step in _steps(self.folder):
                _read_metrics(self.folder, step, repair=True)
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            cleanup_tmp_directories=True,
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._add_checksums),
        )
        return ocp.CheckpointManager(self.folder, options=options)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Tell orbax at every save which checkpoints to keep."""
        steps = sorted(checkpoint.step for checkpoint in checkpoints)
        best = _best(self.folder, steps, self._metric, self._maximize)
        kept = {steps[-1], best} if best not in (None, steps[-1]) else set(steps[-2:])
        return [step in kept for step in steps]

    def _add_checksums(self) -> None:
        """Add checksums; orbax calls this in the background before it renames the checkpoint."""
        if jax.process_index() == 0:
            for draft in self.folder.glob(_DRAFTS):
                write_checksums(draft)

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, data: Any) -> None:
        """Start writing a checkpoint unless it exists; `wait` tells whether that succeeded.

        Args:
            step: its number.
            state: what to save.
            data: the position in the training data, JSON-serialisable.

        Raises:
            UserError: a parameter is not finite; nothing is written.
        """
        self.wait()
        if not all_finite((state.trainable, state.other)):
            raise UserError(
                f"step {step}: the parameters are not finite; the last good checkpoint is "
                f"{self.describe_latest()}"
            )
        if step == self.latest:
            return
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state._asdict()),
                    data=ocp.args.JsonSave({"iterators": gather_values(data)}),
                ),
            )
        except Exception as error:  # the file system and tensorstore may raise anything
            self._failed(step, error)

    def rate(self, step: int, metrics: Mapping[str, float]) -> None:
        """Store an evaluation's metrics with its checkpoint, if that could be written."""
        if self.wait() and step == self.latest and jax.process_index() == 0:
            try:
                make_folder(_metrics_file(self.folder, step).parent)
                write_json(_metrics_file(self.folder, step), metrics)
            except UserError as error:
                self.failure = self._failures.note("evaluations of checkpoints", error)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"checkpoint {step} rated")

    def metrics(self, step: int) -> dict[str, float]:
        """Return what `rate` stored; empty if there is no checkpoint or no evaluation of it."""
        return _read_metrics(self.folder, step)

    def wait(self) -> bool:
        """Wait for the checkpoint being written; return whether that succeeded."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # as in `save`
            self._failed("in progress", error)
            return False
        return True

    def _failed(self, step: int | str, error: Exception) -> None:
        if jax.process_count() > 1:  # the other processes must not wait for this one
            raise UserError(f"checkpoint {step} could not be written: {error}") from error
        self.failure = self._failures.note("checkpoints", error)
        self._manager = self._open()  # forgets and removes incomplete checkpoints
        for leftover in self.folder.glob(_DRAFTS):
            shutil.rmtree(leftover, ignore_errors=True)

    def describe_latest(self) -> str:
        """Describe the newest checkpoint for messages."""
        return "none" if self.latest is None else f"step {self.latest} in {self.folder}"

    def restore(self, state: TrainState) -> tuple[TrainState, Any]:
        """Read the newest sound checkpoint into arrays shaped and placed like those of `state`.

        Newer ones that are damaged are renamed.

        Returns:
            The train state and the position in the data.

        Raises:
            UserError: none is sound, or its data cannot be divided among this number of processes.
        """
        self._put_damaged_aside()
        step = self.latest
        try:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict())
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
                ),
            )
        except Exception as error:  # as in `save`
            raise _unreadable(self.folder / str(step), error) from error
        states = found.data["iterators"]
        if len(states) != jax.process_count() and any(s != states[0] for s in states):
            raise UserError(
                f"checkpoint {step} was written by {len(states)} processes, whose data cannot be "
                f"divided among {jax.process_count()}: use as many processes as before"
            )
        position = states[jax.process_index() if len(states) == jax.process_count() else 0]
        return TrainState(**found.state), position

    def _put_damaged_aside(self) -> None:
        """Rename damaged checkpoints that are newer than the newest sound one.

        Raises:
            UserError: none is sound.
        """
        steps = sorted(_steps(self.folder), reverse=True)
        bad: dict[int, str] = {}
        if jax.process_index() == 0:
            for step in steps:
                if (problem := damage(self.folder / str(step))) is None:
                    break
                bad[step] = problem
        count = int(gather_rows(np.array([len(bad)])).max())
        if count == len(steps):
            raise UserError(
                f"no checkpoint in {self.folder} is sound ({steps[0]}: {bad.get(steps[0])}); "
                "restore one from a copy, or choose another --workdir to start again"
            )
        if not count:
            return
        self._manager.close()
        for step, problem in bad.items():
            aside = _free_name(self.folder / f"damaged-{step}")
            (self.folder / str(step)).rename(aside)
            log.warning(
                "checkpoint %d is damaged (%s) and was renamed to %s; resuming from step %d",
                *(step, problem, aside.name, steps[count]),
            )
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints put aside")
        self._manager = self._open()

    def close(self) -> None:
        """Wait for the checkpoint being written, then close."""
        self.wait()
        self._manager.close()


def has_checkpoint(folder: Path) -> bool:
    """Whether the run in `folder` has a checkpoint to resume from."""
    return bool(_steps(folder / workdir.CHECKPOINT_FOLDER))


def best_checkpoint(folder: Path) -> Path:
    """The best checkpoint of the run in `folder`, as in `read_parameters`.

    Raises:
        UserError: there is no such run, or it has no checkpoint.
    """
    run = workdir.read_run(folder)
    place = folder / workdir.CHECKPOINT_FOLDER
    return place / str(_choose(place, _steps(place), "best", run.metric, run.maximize))


def restore_model(model: Model, folder: Path, which: str = "best") -> tuple[int, Model]:
    """Return (step, model) of a checkpoint of the run in `folder`.

    Raises:
        UserError: there is no such run or checkpoint, or it does not fit the model.
    """
    run = workdir.read_run(folder)
    graph, parameters, other = split_model(model)
    step, arrays = read_parameters(
        folder / workdir.CHECKPOINT_FOLDER, which, run.metric, run.maximize
    )
    for name, value in (parameters | other).items():
        if name not in arrays or arrays[name].shape != value.shape:
            raise UserError(f"checkpoint {step} in {folder} does not fit the model at {name!r}")
    return step, merge_model(graph, {name: arrays[name] for name in graph.paths})


def read_parameters(
    folder: Path, which: str = "best", metric: str = "", maximize: bool = True
) -> tuple[int, Parameters]:
    """Read a checkpoint in a folder of checkpoints, whatever devices it was written on.

    Args:
        folder: the folder.
        which: "best" by `metric` (the latest where none was rated), "latest", or a step.
        metric, maximize: as in `Problem`.

    Returns:
        The step, and arrays by dotted name. If there is a moving average, it replaces the trained
        parameters.

    Raises:
        UserError: there is no such checkpoint, or it is damaged. Another is never substituted:
            a caller who asks for the best must not unknowingly get another.
    """
    folder = Path(folder).absolute()
    steps = _steps(folder)
    step = _choose(folder, steps, which, metric, maximize)
    if problem := damage(folder / str(step)):
        sound = [other for other in steps if not damage(folder / str(other))]
        raise UserError(
            f"checkpoint {folder / str(step)} is damaged ({problem}); sound ones: "
            f"{', '.join(map(str, sound)) or 'none'}"
        )
    handler = ocp.PyTreeCheckpointer()
    path = folder / str(step) / "state"
    try:
        tree = handler.metadata(path).item_metadata.tree
        restore = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = handler.restore(path, restore_args=restore)
    except Exception as error:  # as in `Checkpoints.save`
        raise _unreadable(folder / str(step), error) from error
    arrays: Parameters = {}
    for part in ("trainable", "frozen", "other", "ema"):
        arrays.update(state.get(part) or {})
    return step, arrays


def _steps(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _free_name(path: Path) -> Path:
    """The path, or where it exists, the path with a number appended."""
    names = itertools.chain(
        [path], (path.with_name(f"{path.name}-{i}") for i in itertools.count(2))
    )
    return next(name for name in names if not name.exists())


def _unreadable(checkpoint: Path, error: Exception) -> UserError:
    return UserError(
        f"checkpoint {checkpoint} cannot be read ({first_line(error)[:300]}); remove that "
        "folder to resume from the one before it, if any"
    )


def _choose(folder: Path, steps: list[int], which: str, metric: str, maximize: bool) -> int:
    if not steps:
        raise UserError(f"{folder} holds no checkpoint")
    if which == "latest":
        return max(steps)
    if which == "best":
        best = _best(folder, steps, metric, maximize)
        return max(steps) if best is None else best
    if not which.isdigit() or int(which) not in steps:
        raise UserError(f"no checkpoint {which!r}; there are: {steps}")
    return int(which)


def _best(folder: Path, steps: Iterable[int], metric: str, maximize: bool) -> int | None:
    """The step with the best metric, the latest on a tie; None if no step has a finite one."""
    found = {step: _read_metrics(folder, step).get(metric, math.nan) for step in steps}
    sign = 1 if maximize else -1
    scores = {step: sign * value for step, value in found.items() if math.isfinite(value)}
    return max(scores, key=lambda step: (scores[step], step), default=None)


def _metrics_file(folder: Path, step: int) -> Path:
    return folder / str(step) / "metrics" / "metrics"


def _read_metrics(folder: Path, step: int, repair: bool = False) -> dict[str, float]:
    """What `Checkpoints.rate` kept; where that is damaged, what the run's log has, perhaps nothing.

    `repair` puts the one in the place of the other.
    """
    file = _metrics_file(folder, step)
    if not file.exists():
        return {}
    try:
        values = read_object(file)
        if all(number(value) is not None for value in values.values()):
            return values
        problem = f"{file}: holds something else than numbers"
    except UserError as error:
        problem = str(error)
    values = evaluation_at(folder.parent, step)
    log.warning("%s; %s", problem, "read from the log" if values else "it counts as not evaluated")
    if repair:
        with contextlib.suppress(OSError, UserError):  # a full disk: said again at the next look
            file.replace(file.with_name("damaged"))
            if values:
                write_json(file, values)
    return values
