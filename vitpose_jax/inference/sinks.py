"""Where frames with people go: the journal, drawn pictures, annotated videos."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import PICTURE_MEMORY, EncodingError, load_image, write_picture
from vitpose_jax.files.videos import VideoWriter
from vitpose_jax.files.writing import make_folder
from vitpose_jax.inference.background import Background
from vitpose_jax.inference.inputs import Source, SourceKind
from vitpose_jax.inference.journal import Journal, as_bytes
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.pipeline import Frame, Report, Sink
from vitpose_jax.inference.preparation import WORKERS
from vitpose_jax.inference.results import entry_head, result_rows

SETTLE_SECONDS = 2.0
"""How much work a killed process may lose."""
MANY_PEOPLE = 1000
"""So many on one picture are written down at once."""

_Entry = tuple[dict[str, Any], list[str]]
"""An entry of the journal: head and rows."""

Draw = Callable[[np.ndarray, Sequence[Person]], np.ndarray]
"""(image (uint8 RGB), people) -> drawn image."""


def _size(frame: Frame) -> int:
    """The bytes of a frame's image and heatmaps."""
    maps = sum(person.heatmaps.nbytes for person in frame.people if person.heatmaps is not None)
    return maps + (0 if frame.image is None else frame.image.nbytes)


class Recorder(Sink):
    """Writes frames to other sinks, and to the journal once those have them on disk."""

    def __init__(self, journal: Journal, sinks: Sequence[Sink] = ()) -> None:
        self._journal, self._sinks = journal, sinks
        self.needs_images = frozenset[SourceKind]().union(*(sink.needs_images for sink in sinks))
        # Replaced as one, so that Ctrl-C at any moment neither loses nor doubles an entry.
        self._at: tuple[int, list[_Entry]] = journal.end, []
        self._report = Report()
        self._settled = time.monotonic()

    def write(self, frame: Frame) -> None:
        """Pass the frame on and note it; every SETTLE_SECONDS, write down what is noted."""
        entry = entry_head(frame), result_rows(frame)
        for sink in self._sinks:
            sink.write(frame)
        self._at[1].append(entry)
        if time.monotonic() - self._settled > SETTLE_SECONDS or len(frame.people) > MANY_PEOPLE:
            self._note(sum((sink.settle() for sink in self._sinks), Report()))
            self._write_down()

    def end(self, source: Source, report: Report) -> None:
        """Note the end of a video."""
        for sink in self._sinks:
            sink.end(source, report)
        problems = {"problems": report.problems} if report.problems else {}
        self._at[1].append(({"end": source.name, "restart": True, **problems}, []))

    def close(self) -> Report:
        """Close the other sinks and write down the rest, for no restart if they failed."""
        report = sum((sink.close() for sink in self._sinks), Report())
        self._note(report)
        if report.ended_by is not None:
            for head, _ in self._at[1]:
                head["restart"] = False
        self._write_down()
        return self._report

    def _note(self, report: Report) -> None:
        self._report += report
        if report.problems:
            self._at[1].append(({"problems": report.problems}, []))

    def _write_down(self) -> None:
        end, entries = self._at
        end = self._journal.write(b"".join(as_bytes(*entry) for entry in entries), end)
        self._at = end, []
        self._settled = time.monotonic()


class PictureSink(Sink):
    """Drawn pictures, made by threads while the network runs."""

    needs_images = frozenset[SourceKind]({"image"})

    def __init__(self, draw: Draw, paths: Mapping[str, Path]) -> None:
        """Set the pictures' paths by the source's name."""
        self._draw, self._paths = draw, paths
        self._background = Background(WORKERS)
        self._problems: list[str] = []
        self._notes: dict[str, None] = {}

    def write(self, frame: Frame) -> None:
        """Queue a picture; raises UserError if an earlier one could not be written."""
        if frame.index is None and frame.error is None:
            arguments = frame.source, frame.image, frame.people
            self._background.submit(self._save, *arguments, size=_size(frame))

    def settle(self) -> Report:
        """Wait for all pictures so far; raises UserError if one could not be written."""
        self._background.wait()
        return self._news()

    def close(self) -> Report:
        """Wait for the last picture."""
        try:
            self._background.close()
        except UserError as error:
            return self._news() + Report(ended_by=error)
        return self._news()

    def _news(self) -> Report:
        problems, self._problems = self._problems, []
        return Report(problems=tuple(problems), notes=tuple(self._notes))

    @PICTURE_MEMORY.kept()
    def _save(self, source: Source, image: np.ndarray | None, people: Sequence[Person]) -> None:
        try:
            # A large picture was not kept. As little as possible holds on to it here.
            drawn = self._draw(load_image(source.location) if image is None else image, people)
        except UserError as error:
            self._problems.append(str(error))
            return
        try:
            write_picture(self._paths[source.name], drawn)
        except EncodingError as error:
            self._problems.append(str(error))
        else:
            path = self._paths[source.name]
            where = f"picture {path}" if len(self._paths) == 1 else f"pictures in {path.parent}"
            self._notes[where] = None


class VideoSink(Sink):
    """Annotated videos, each drawn and encoded by a thread; failures become problems."""

    needs_images = frozenset[SourceKind]({"video", "camera"})

    def __init__(self, draw: Draw, paths: Mapping[str, Path]) -> None:
        """Set the videos' paths by the source's name."""
        self._draw, self._paths = draw, paths
        self._notes: dict[str, None] = {}
        self._problems: dict[str, None] = {}
        self._source: Source | None = None
        self._path = Path()
        self._writer: VideoWriter | None = None
        self._background = Background(threads=1)

    def write(self, frame: Frame) -> None:
        """Append a frame to its video, unless something went wrong before."""
        if frame.fps is None or frame.time is None or frame.image is None:
            return
        if frame.source != self._source:
            self._finish()
            self._start(frame.source, frame.fps)
        if self._writer is not None:
            with self._noting():
                arguments = frame.image, frame.people, frame.time
                self._background.submit(self._encode, self._writer, *arguments, size=_size(frame))

    def end(self, source: Source, report: Report) -> None:
        """Finish the video."""
        self._finish()

    def settle(self) -> Report:
        """Report what is new; videos are on disk when they end."""
        news = Report(problems=tuple(self._problems), notes=tuple(self._notes))
        self._problems, self._notes = {}, {}
        return news

    def close(self) -> Report:
        """Finish the last video, even if it did not end."""
        self._finish()
        return self.settle()

    def _start(self, source: Source, fps: float) -> None:
        self._source, self._path = source, self._paths[source.name]
        with self._noting():
            make_folder(self._path.parent)
            self._writer = VideoWriter(self._path, fps)
            self._background = Background(threads=1)

    def _encode(
        self, writer: VideoWriter, image: np.ndarray, people: Sequence[Person], time: float
    ) -> None:
        writer.write(self._draw(image, people), time)

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            with self._noting():
                self._background.close()
        finally:
            with self._noting():
                if writer.close():
                    self._notes[f"video {self._path}"] = None

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (UserError, OSError) as error:
            self._problems[f"annotated video: {error}"] = None
