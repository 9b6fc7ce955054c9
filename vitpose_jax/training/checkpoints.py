"""Checkpoints of a run: written in the background, whole or not at all, best and latest kept."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from vitpose_jax.errors import UserError
from vitpose_jax.training.sharding import gather_rows
from vitpose_jax.training.state import Parameters, TrainState
from vitpose_jax.training.step import all_finite

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints below one folder, each with the train state and the position in the data.

    A save that fails (disk full) is reported and leaves the earlier checkpoints alone; the run may
    go on. Metrics given to a save rank it by `metric`.
    """

    def __init__(self, folder: Path, *, metric: str, maximize: bool = True, keep: int = 1) -> None:
        self.folder = Path(folder).absolute()
        self._metric, self._maximize, self._keep = metric, maximize, keep
        self.failure: str | None = None
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        worst = -np.inf if self._maximize else np.inf

        def score(metrics: dict[str, float] | None) -> float:
            return (metrics or {}).get(self._metric, worst)

        best = BestN(
            get_metric_fn=score,
            reverse=not self._maximize,
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(self._keep), best]),
            best_fn=score,  # without it the metrics would not be written
            cleanup_tmp_directories=True,
        )
        return ocp.CheckpointManager(self.folder, options=options)

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(
        self, step: int, state: TrainState, data: Any, metrics: dict[str, float] | None = None
    ) -> bool:
        """Start writing; True when under way (see `wait` for its success).

        data: the position in the training data, JSON-able. Raises UserError, and writes nothing,
        when a parameter is not finite.
        """
        self.wait()
        if not all_finite((state.trainable, state.other)):
            raise UserError(
                f"step {step}: the parameters are not finite; the last good checkpoint is "
                f"{self.describe_latest()}"
            )
        if step == self.latest:  # the step was saved before; it now has metrics, or nothing new
            return True
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state._asdict()),
                    data=ocp.args.JsonSave({"iterators": _of_all_processes(data)}),
                ),
                metrics=metrics,
            )
        except Exception as error:
            return self._failed(step, error)
        return True

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
            raise UserError(
                f"checkpoint {self.folder / str(step)} cannot be read ({error}); remove that "
                "folder to go on from the one before it, if any"
            ) from error
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
    step = _choose(found, which, metric, maximize)
    handler = ocp.PyTreeCheckpointer()
    path = found[step] / "state"
    tree = handler.metadata(path).item_metadata.tree
    restore = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    state = handler.restore(path, restore_args=restore)
    arrays: Parameters = {}
    for part in ("trainable", "frozen", "other", "ema"):
        arrays.update(state.get(part) or {})
    return step, arrays


def _choose(found: dict[int, Path], which: str, metric: str, maximize: bool) -> int:
    if which == "latest":
        return max(found)
    if which != "best":
        if not which.isdigit() or int(which) not in found:
            raise UserError(f"no checkpoint {which!r}; there are: {sorted(found)}")
        return int(which)
    scores = {}
    for step, path in found.items():
        file = path / "metrics" / "metrics"
        if file.exists() and metric in (metrics := json.loads(file.read_text())):
            scores[step] = metrics[metric] if maximize else -metrics[metric]
    return max(scores, key=scores.get) if scores else max(found)
