"""Shared by commands that find people: where to find them, progress, and reporting problems."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vitpose_jax.errors import UserError, printable
from vitpose_jax.inference.boxes import BoxFile, read_boxes
from vitpose_jax.inference.detector import DEFAULT_DETECTOR, PersonDetector
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.pipeline import Frame, Report, Sink


def open_finder(
    boxes: str | None,
    detector: str | None,
    any_category: bool = False,
    categories: Sequence[str] = (),
) -> BoxFile | PersonDetector | None:
    """Open what `--boxes` or `--detector` names; None stands for whole pictures as people."""
    if boxes is None:
        if categories:
            raise UserError("--category says which boxes of --boxes FILE are people: give both")
        name = detector or DEFAULT_DETECTOR
        return None if name == "none" else PersonDetector(name)
    if detector is not None:
        raise UserError("--boxes and --detector exclude each other: people come from one of them")
    return read_boxes(boxes, any_category, categories)


class ProgressBar(Sink):
    """A bar on the terminal for all pictures, then one for each video."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._source: Source | None = None
        self._people = 0

    def write(self, frame: Frame) -> None:
        """Count a frame and its people."""
        source = None if frame.source.kind == "image" else frame.source
        if self._bar is None or source != self._source:
            self.close()
            self._source, self._people = source, 0
            unit = "image" if source is None else "frame"
            # disable=None: only on a terminal
            self._bar = tqdm(total=frame.total, unit=unit, disable=None, leave=False)
        self._people += len(frame.people)
        self._bar.set_postfix_str(f"{self._people} people", refresh=False)
        self._bar.update()

    def close(self) -> Report:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
        return Report()


def conclude(report: Report, inputs: int, results: Path) -> None:
    """Report problems on stderr, and where a stopped run's results are.

    Raises:
        Exception: what ended the run, or a UserError because no input could be used.
    """
    alone = inputs == report.unusable == 1  # then its problem is the error
    if report.problems and not alone:
        print(f"{len(report.problems)} problem(s) in {inputs} input(s):", file=sys.stderr)
        for problem in report.problems:
            print(f"  {printable(problem)}", file=sys.stderr)
    if isinstance(report.ended_by, KeyboardInterrupt):
        kept = f"; their results are in {results}" if report.frames else ""
        print(printable(f"stopped after {report.frames} images{kept}"), file=sys.stderr)
    if report.ended_by is not None:
        raise report.ended_by
    if not report.frames:
        raise UserError(report.problems[0] if alone else "none of the inputs could be used")
