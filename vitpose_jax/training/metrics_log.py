"""The figures of a run over its steps: metrics.jsonl, and the same for TensorBoard."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import image, scalar

from vitpose_jax.files.writing import make_folder, write_text

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"


def read_metrics(workdir: Path, *, up_to: int | None = None) -> list[dict[str, float]]:
    """Return the rows of metrics.jsonl, by default all; a torn last line is left out."""
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
    """Writes figures on the first process, and nothing on the others.

    A full disk costs rows, not the run.
    """

    def __init__(self, workdir: Path, start: int = 0, evaluated: bool = True) -> None:
        """Open the log of a run that goes on after the step `start`.

        Rows after it, from steps that are to be taken again, are dropped, and so is its own
        evaluation unless `evaluated`. No figure of a step is in the file twice.
        """
        self._active = jax.process_index() == 0
        if not self._active:
            return
        rows = read_metrics(workdir, up_to=start)
        if not evaluated:
            rows = [row for row in rows if row["step"] < start or not _is_evaluation(row)]
        self._file = workdir / METRICS_FILE
        write_text(self._file, "".join(json.dumps(row) + "\n" for row in rows))
        self._board = TensorBoard(workdir / "tensorboard", start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write a row. TensorBoard groups names by what is before the slash."""
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
        """Show a uint8 (H, W, 3) picture in TensorBoard."""
        if self._active:
            self._board.add(step, image(name, pixels, dataformats="HWC"))

    def close(self) -> None:
        """Close the files."""
        if self._active:
            self._board.close()


class TensorBoard:
    """An event file, written at once.

    tensorboardX's own writer has a thread for it. A full disk ends that thread, and the next
    entries then wait forever.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        """Open a file for entries after the step `start`; TensorBoard drops older ones of these."""
        make_folder(folder)
        self._events = EventsWriter(str(folder / "events"))
        opening = SessionLog(status=SessionLog.START)
        with contextlib.suppress(OSError):
            self._events.write_event(Event(step=start + 1, session_log=opening))

    def add(self, step: int, *summaries: Summary) -> None:
        """Write a step's entries; an error is only logged."""
        try:
            for summary in summaries:
                self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._events.flush()
        except OSError as error:
            log.error("step %d is missing in TensorBoard: %s", step, error)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._events.close()
