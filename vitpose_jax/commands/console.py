"""What commands that look for people show: how far they are, and what went wrong."""

import sys
from typing import Any

from tqdm import tqdm

from vitpose_jax.inference.inputs import Source, SourceKind
from vitpose_jax.inference.pipeline import Frame, Report


class ProgressBar:
    """A bar on the terminal for all pictures, then one for each video."""

    needs_images: frozenset[SourceKind] = frozenset()

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._source: Source | None = None
        self._people = 0

    def write(self, frame: Frame) -> None:
        """Count a frame and its people."""
        source = None if frame.source.kind == "image" else frame.source
        if self._bar is None or source != self._source:
            self.close()
            unit = "image" if source is None else "frame"
            # disable=None: only on a terminal
            self._bar = tqdm(total=frame.total, unit=unit, disable=None, leave=False)
            self._source, self._people = source, 0
        self._people += len(frame.people)
        self._bar.set_postfix_str(f"{self._people} people", refresh=False)
        self._bar.update()

    def close(self) -> Report:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        return Report()


def print_problems(report: Report, inputs: int) -> None:
    """Say what went wrong on stderr, except where it is the only input's error, to be raised."""
    if report.problems and not inputs == report.unusable == 1:
        print(f"{len(report.problems)} problem(s) in {inputs} input(s):", file=sys.stderr)
        for problem in report.problems:
            print(f"  {problem}", file=sys.stderr)
