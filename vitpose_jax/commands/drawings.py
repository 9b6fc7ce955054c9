"""What `vitpose predict` draws: pictures and videos of people, made while the network goes on."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vitpose_jax.errors import UserError
from vitpose_jax.files.videos import VideoWriter
from vitpose_jax.inference.background import Background
from vitpose_jax.inference.draw import draw_people, overlay_heatmaps
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.person import Person


class Drawings:
    """The drawn pictures and videos below a run's folder."""

    def __init__(
        self,
        out: Path,
        options: argparse.Namespace,
        estimator: PoseEstimator,
        problems: list[str],
        notes: dict[str, None],
    ) -> None:
        """Nothing is written yet.

        Args:
            out: the run's folder.
            options: of `vitpose predict`: what is drawn, and from which score on.
            estimator: that finds the people.
            problems, notes: what is to be told the user at the end; written to.
        """
        self._out, self._options, self._problems, self._notes = out, options, problems, notes
        self._skeleton, self._input_size = estimator.skeleton, estimator.input_size

    @property
    def of_pictures(self) -> bool:
        """Whether pictures are drawn at all."""
        return self._options.draw or self._options.heatmaps

    def pictures(self, source: Source, image: np.ndarray, people: list[Person]) -> None:
        """Save a picture with its poses and under its heatmaps, as the options say.

        Raises:
            UserError: there is no room, or the folder cannot be written to.
        """
        if self._options.draw:
            self._save("drawn", source, self._drawn(image, people))
        if self._options.heatmaps:
            self._save("heatmaps", source, overlay_heatmaps(image, people, self._input_size))

    def film(self, source: Source, fps: float) -> "Film":
        """The drawn frames of a video, to be added one by one."""
        return Film(self._path(source, ".poses.mp4"), fps, self._drawn, self._notes)

    def _drawn(self, image: np.ndarray, people: list[Person]) -> np.ndarray:
        return draw_people(image, people, self._skeleton, self._options.min_score)

    def _save(self, folder: str, source: Source, image: np.ndarray) -> None:
        is_web_picture = source.name.lower().endswith((".jpg", ".jpeg", ".png"))
        path = self._path(source, "" if is_web_picture else ".jpg", folder)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=90)
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) is not None:
                raise UserError(f"{path}: cannot be written ({error})") from None
            self._problems.append(f"{path}: the picture cannot be encoded ({error})")
        else:
            self._notes[f"pictures in {self._out / folder}"] = None

    def _path(self, source: Source, suffix: str, folder: str = "") -> Path:
        parts = [part for part in Path(source.name).parts if part not in ("..", "/")]
        path = self._out.joinpath(folder, *parts)
        return path.with_name(path.name + suffix)


class Film(contextlib.AbstractContextManager):
    """A video that a thread draws and writes; where that fails, the user is told at the end."""

    def __init__(
        self,
        path: Path,
        fps: float,
        draw: Callable[[np.ndarray, list[Person]], np.ndarray],
        notes: dict[str, None],
    ) -> None:
        """Start a video.

        Args:
            path: of the file, which is there once the film is closed.
            fps: frames per second.
            draw: image and people to a frame.
            notes: what is to be told the user at the end; written to.
        """
        self._path, self._draw, self._notes = path, draw, notes
        self._writer: VideoWriter | None = None
        self._background = Background(threads=1)
        with self._noting():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = VideoWriter(path, fps)

    def add(self, image: np.ndarray, people: list[Person]) -> None:
        """Append a frame, unless something went wrong before."""
        if self._writer is not None:
            with self._noting():
                self._background.submit(self._write, image, people)

    def _write(self, image: np.ndarray, people: list[Person]) -> None:
        self._writer.write(self._draw(image, people))

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (UserError, OSError) as error:
            self._notes[f"annotated video: {error}"] = None

    def __exit__(self, *_: object) -> None:
        if self._writer is None:
            return
        try:
            with self._noting():
                self._background.close()
        finally:
            with self._noting():
                if self._writer.close():
                    self._notes[f"video {self._path}"] = None
