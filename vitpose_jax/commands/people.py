"""Shared by commands that find people: the journal, progress, and reporting problems."""

import argparse
import contextlib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vitpose_jax.errors import UserError, printable
from vitpose_jax.files.fingerprint import digest
from vitpose_jax.inference.box_units import BoxUnitsSink
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.formats import FORMATS, make_results, results_path
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.journal import JOURNAL_FILE, Journal, read_journal
from vitpose_jax.inference.outputs import remove_drafts
from vitpose_jax.inference.pipeline import Frame, Report, Sink, in_order


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


def open_journal(
    options: argparse.Namespace,
    outputs: Collection[Path],
    settings: Mapping[str, Any],
    sources: Sequence[Source],
    estimator: PoseEstimator,
    checks: Sequence[BoxUnitsSink] = (),
) -> Journal:
    """The journal of a run that finds people, new or resumed as the options say.

    `outputs` are all files that the run may write; `checks` are told what earlier runs have done.

    Raises:
        UserError: an earlier run cannot be resumed, or the journal cannot be written.
    """
    named = (f"{source.kind} {source.name} {_size(source.location)}" for source in sources)
    header = {
        "settings": settings,
        "inputs": {"number": len(sources), "digest": digest([named])},
        "skeleton": estimator.skeleton.name,
        "keypoint_names": estimator.skeleton.keypoint_names,
        "model": estimator.identity,
    }
    out = Path(options.out)
    journal = Journal(out / JOURNAL_FILE, header, options.resume)
    remove_drafts(set(outputs))
    if not options.resume:
        for name in FORMATS:
            with contextlib.suppress(OSError):
                results_path(out, name).unlink()
    if journal.done:
        for check in checks:
            check.recall(read_journal(journal.path)[1], in_order(sources))
        left = len(sources) - journal.done
        print(f"resuming: {left} of {len(sources)} inputs are left", file=sys.stderr)
    return journal


def _size(location: str) -> int | None:
    try:
        return os.stat(location).st_size
    except (OSError, ValueError):
        return None


def finish(report: Report, journal: Journal, formats: Sequence[str]) -> Report:
    """Make the files of results, unless no input could be used; the report with what went wrong."""
    try:
        if report.frames:
            make_results(journal.path, formats)
        else:
            journal.path.unlink()
    except (Exception, KeyboardInterrupt) as error:
        return report + Report(ended_by=error)
    return report


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number of things, in words: "1 image", "2 images"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def conclude(report: Report, inputs: int, results: Path) -> None:
    """Report problems on stderr, and where a stopped run's results are.

    Raises:
        Exception: what ended the run, or a UserError because no input could be used.
    """
    alone = inputs == report.unusable == 1  # then its problem is the error
    if report.problems and not alone:
        number = len(report.problems) + report.more_problems
        print(f"{number} problem(s) in {inputs} input(s):", file=sys.stderr)
        for problem in report.problems:
            print(f"  {printable(problem)}", file=sys.stderr)
        if report.more_problems:
            where = printable(str(results.with_name(JOURNAL_FILE)))
            print(f"  and {report.more_problems} more, in {where}", file=sys.stderr)
    if isinstance(report.ended_by, KeyboardInterrupt):
        kept = f"; their results are in {results}; --resume goes on" if report.frames else ""
        print(printable(f"stopped after {report.frames} images{kept}"), file=sys.stderr)
    if report.ended_by is not None:
        raise report.ended_by
    if not report.frames:
        raise UserError(report.problems[0] if alone else "none of the inputs could be used")
