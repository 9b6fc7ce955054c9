"""The folder of one run: its configuration, its log, and the check that it is the same run."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import image, scalar

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_object
from vitpose_jax.files.writing import make_folder, write_json, write_text
from vitpose_jax.training.task import Task
from vitpose_jax.weights.sources import TASK_FILE

log = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
EVALUATION_FILE = "evaluation.json"
CHECKPOINT_FOLDER = "checkpoints"


def claim(workdir: Path, config: ml_collections.ConfigDict, task: Task) -> None:
    """Make the folder this run's, or make sure that it is.

    Raises UserError, with the differences, when it was made by another configuration.
    """
    values = plain(config)
    if (workdir / CONFIG_FILE).exists():
        changes = differences(plain(read_config(workdir)[0]), values)
        if changes:
            raise UserError(
                f"{workdir} belongs to another configuration: {'; '.join(changes)}. "
                "Choose another --workdir, or the same options as before"
            )
    elif jax.process_index() == 0:
        make_folder(workdir)
        about = {"metric": task.metric, "maximize": task.maximize, "model": task.model_config}
        write_json(workdir / TASK_FILE, about, indent=2)
        write_json(workdir / CONFIG_FILE, values, indent=2)


def read_config(workdir: Path) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
    """(configuration, `metric`, `maximize` and `model` of its task) of a run.

    Raises UserError when the folder is none.
    """
    for file in (workdir / CONFIG_FILE, workdir / TASK_FILE):
        if not file.exists():
            raise UserError(f"{workdir} is no training run: {file} is missing")
    values, about = (read_object(workdir / name) for name in (CONFIG_FILE, TASK_FILE))
    return ml_collections.ConfigDict(values), about


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Nested plain values, as JSON gives them back."""
    return json.loads(config.to_json_best_effort())


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """What changed between two nested configurations, one line for each value."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in sorted(set(there) | set(here)):
            path = f"{name}.{key}" if name else key
            found += differences(there.get(key, "absent"), here.get(key, "absent"), path)
        return found
    return [] if there == here else [f"{name} was {there!r}, now {here!r}"]


def read_metrics(workdir: Path, *, up_to: int | None = None) -> list[dict[str, float]]:
    """The rows of metrics.jsonl; a torn last line is left out, and rows after step `up_to`."""
    rows = []
    file = workdir / METRICS_FILE
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if up_to is None or row["step"] <= up_to:
            rows.append(row)
    return rows


def _is_evaluation(row: Mapping[str, float]) -> bool:
    return any(name.startswith("eval/") for name in row)


class MetricsLog:
    """metrics.jsonl and TensorBoard; only the first process writes.

    Rows after `start` (a run that was killed had gone further than its last checkpoint) are
    dropped, and its evaluation too where `evaluated` is false: it is yet to come. So no figure of a
    step is in the file twice. A full disk costs rows, not the run.
    """

    def __init__(self, workdir: Path, start: int = 0, evaluated: bool = True) -> None:
        self._active = jax.process_index() == 0
        if not self._active:
            return
        rows = read_metrics(workdir, up_to=start)
        if not evaluated:
            rows = [row for row in rows if row["step"] < start or not _is_evaluation(row)]
        self._file = workdir / METRICS_FILE
        write_text(self._file, "".join(json.dumps(row) + "\n" for row in rows))
        self._board = TensorBoard(workdir / "tensorboard")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row; names with a slash are grouped in TensorBoard."""
        if not self._active:
            return
        row = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        try:
            with self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            log.error("step %d could not be logged: %s", step, error)
        self._board.add(step, *(scalar(name, value) for name, value in values.items()))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """A uint8 (H, W, 3) picture for TensorBoard."""
        if self._active:
            self._board.add(step, image(name, pixels, dataformats="HWC"))

    def close(self) -> None:
        if self._active:
            self._board.close()


class TensorBoard:
    """An event file written at once: tensorboardX's own writer does it in a thread, which a full
    disk ends, and the next entries then wait for it forever."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._events = EventsWriter(str(folder / "events"))

    def add(self, step: int, *summaries: Summary) -> None:
        try:
            for summary in summaries:
                self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._events.flush()
        except OSError as error:
            log.error("step %d is missing in TensorBoard: %s", step, error)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._events.close()
