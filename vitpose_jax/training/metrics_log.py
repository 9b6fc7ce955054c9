"""The metrics of a run over its steps, in metrics.jsonl and for TensorBoard."""

import contextlib
import errno
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import image, scalar

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import number
from vitpose_jax.files.writing import make_folder, write_text
from vitpose_jax.training.failures import Failures

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
DAMAGED_FILE = "metrics.damaged"
"""Takes the lines of the other that are no rows."""

Row: TypeAlias = dict[str, Any]
"""A step's figures by name: `step`, an int, and floats, or None for what is not finite."""


def read_metrics(workdir: Path, *, up_to: int | None = None) -> list[Row]:
    """Return the rows of metrics.jsonl, by default all; invalid lines are left out.

    Raises:
        UserError: it cannot be read.
    """
    rows = [row for row in map(_parse, _read_lines(workdir / METRICS_FILE)) if row is not None]
    return [row for row in rows if up_to is None or row["step"] <= up_to]


def evaluation_at(workdir: Path, step: int) -> dict[str, float]:
    """Return a step's evaluation as metrics.jsonl has it; empty where it has none."""
    return {
        name.removeprefix("eval/"): math.nan if value is None else value
        for row in read_metrics(workdir, up_to=step)
        for name, value in row.items()
        if row["step"] == step and name.startswith("eval/")
    }


def _read_lines(file: Path) -> list[bytes]:
    """The lines that are not blank, without a last one that is torn: its process was killed."""
    try:
        lines = file.read_bytes().split(b"\n") if file.exists() else []
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); move it away to go on"
        ) from None
    if lines and _parse(lines[-1]) is None:
        del lines[-1]
    return [line for line in lines if line.strip()]


def _parse(line: bytes) -> Row | None:
    """The row in a line: a step, and numbers or None by name."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    values = row.values()
    return row if all(value is None or number(value) is not None for value in values) else None


def _append(file: Path, line: bytes) -> None:
    """Add a line to a file, all of it or nothing."""
    with file.open("ab", buffering=0) as stream:
        before, written = stream.tell(), 0
        try:
            written = stream.write(line)
        finally:
            if written < len(line):
                stream.truncate(before)
    if written < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _is_evaluation(row: Mapping[str, float]) -> bool:
    return any(name.startswith("eval/") for name in row)


class MetricsLog:
    """Writes metrics on the first process, and nothing on the others.

    Errors such as a full disk are only logged: rows are lost, but the run goes on.
    """

    def __init__(
        self, workdir: Path, failures: Failures, start: int = 0, evaluated: bool = True
    ) -> None:
        """Open the log of a run that goes on after the step `start`.

        Rows after it are dropped, since those steps will be repeated, and so is its own evaluation
        unless `evaluated`. Thus no metric of a step is in the file twice.
        """
        self._active, self._failures = jax.process_index() == 0, failures
        if not self._active:
            return
        self._file = workdir / METRICS_FILE
        self._move_damage(workdir / DAMAGED_FILE)
        rows = read_metrics(workdir, up_to=start)
        if not evaluated:
            rows = [row for row in rows if row["step"] < start or not _is_evaluation(row)]
        write_text(self._file, "".join(json.dumps(row) + "\n" for row in rows))
        self._board = TensorBoard(workdir / "tensorboard", failures, start)

    def _move_damage(self, to: Path) -> None:
        """Say which lines are no rows, and keep them elsewhere."""
        lines = _read_lines(self._file)
        damaged = [line for line in lines if _parse(line) is None]
        if not damaged:
            return
        try:
            with to.open("ab") as file:
                file.writelines(line + b"\n" for line in damaged)
        except OSError as error:
            raise UserError(f"{to}: cannot be written ({error.strerror}); make room") from None
        log.warning(
            "%s: %d of %d lines are no rows of figures; moved to %s",
            *(self._file, len(damaged), len(lines), to.name),
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write a row. TensorBoard groups names by the part before the slash."""
        if not self._active:
            return
        row = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        try:
            _append(self._file, json.dumps(row).encode() + b"\n")
        except OSError as error:
            self._failures.note(f"rows of {METRICS_FILE}", error)
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
    """An event file, written synchronously.

    tensorboardX's own writer uses a thread. A full disk ends that thread, and later entries then
    wait forever.
    """

    def __init__(self, folder: Path, failures: Failures, start: int) -> None:
        """Open a file for entries after the step `start`; TensorBoard drops older ones of these."""
        make_folder(folder)
        self._failures = failures
        self._events = EventsWriter(str(folder / "events"))
        opening = SessionLog(status=SessionLog.START)
        with contextlib.suppress(OSError):
            self._events.write_event(Event(step=start + 1, session_log=opening))

    def add(self, step: int, *summaries: Summary) -> None:
        """Write a step's entries, if there is room."""
        try:
            for summary in summaries:
                self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._events.flush()
        except OSError as error:
            self._failures.note("steps in TensorBoard", error)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._events.close()
