"""Where frames with people go: a file of results, drawn pictures, annotated videos, memory."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import EncodingError, write_picture
from vitpose_jax.files.videos import VideoWriter
from vitpose_jax.files.writing import make_folder
from vitpose_jax.inference.background import Background
from vitpose_jax.inference.inputs import Source, SourceKind
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.pipeline import Frame, Report, Sink
from vitpose_jax.inference.preparation import WORKERS
from vitpose_jax.inference.results import coco_result, write_results

Draw = Callable[[np.ndarray, Sequence[Person]], np.ndarray]
"""(image (uint8 RGB), people) -> drawn image."""


class ResultsSink(Sink):
    """COCO results as one JSON file, written at the end unless no frame could be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results: list[dict[str, Any]] = []
        self._has_frames = False

    def write(self, frame: Frame) -> None:
        """Store the frame's people."""
        if frame.error is None:
            self._has_frames = True
            name, number = frame.identity or (frame.source.name, frame.source.image_id)
            self._results += [
                coco_result(person, name, number, frame.index, frame.time)
                for person in frame.people
            ]

    def close(self) -> Report:
        """Write the file; raises UserError if that fails."""
        if self._has_frames:
            write_results(self._path, self._results)
        return Report()


class PeopleSink(Sink):
    """The people of a video, frame by frame, and the frames' times."""

    def __init__(self) -> None:
        self.frames: list[list[Person]] = []
        self.times: list[float] = []

    def write(self, frame: Frame) -> None:
        """Store the frame's people."""
        if frame.time is not None:
            self.frames.append(frame.people)
            self.times.append(frame.time)


class PictureSink(Sink):
    """Drawn pictures, made by threads while the network runs."""

    needs_images = frozenset[SourceKind]({"image"})

    def __init__(self, folder: Path, draw: Draw, paths: Mapping[str, Path]) -> None:
        """Set the folder, and the paths in it by the source's name."""
        self._folder, self._draw, self._paths = folder, draw, paths
        self._background = Background(WORKERS)
        self._problems: list[str] = []
        self._notes: dict[str, None] = {}

    def write(self, frame: Frame) -> None:
        """Queue a picture; raises UserError if an earlier one could not be written."""
        if frame.index is None and frame.image is not None:
            self._background.submit(self._save, frame.source, frame.image, frame.people)

    def close(self) -> Report:
        """Wait for the last picture."""
        ended_by = None
        try:
            self._background.close()
        except UserError as error:
            ended_by = error
        problems, notes = tuple(self._problems), tuple(self._notes)
        return Report(problems=problems, notes=notes, ended_by=ended_by)

    def _save(self, source: Source, image: np.ndarray, people: Sequence[Person]) -> None:
        drawn = self._draw(image, people)
        try:
            write_picture(self._paths[source.name], drawn)
        except EncodingError as error:
            self._problems.append(str(error))
        else:
            self._notes[f"pictures in {self._folder}"] = None


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
                self._background.submit(self._encode, self._writer, *arguments)

    def close(self) -> Report:
        """Finish the last video."""
        self._finish()
        return Report(problems=tuple(self._problems), notes=tuple(self._notes))

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
