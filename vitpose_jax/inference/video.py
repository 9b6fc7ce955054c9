"""Videos and cameras as streams of frames, and frames back into a video file."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from vitpose_jax.errors import UserError

DEFAULT_FPS = 30.0


class VideoReader:
    """The frames of a video file or camera, one after another.

    Attributes:
        fps: frames per second (30 where the source does not tell).
        size: (width, height) of the upright frames.
        frame_count: how many frames the file claims to have; None where it does not tell.
    """

    def __init__(self, source: str | Path | int) -> None:
        """Open a file, a camera (its number) or a stream (its address).

        Raises:
            UserError: it cannot be opened or has no frame.
        """
        self._name = f"camera {source}" if isinstance(source, int) else str(source)
        if isinstance(source, Path) and not source.exists():
            raise UserError(f"{self._name}: no such file")
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        opened, self._first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not opened:
            self._capture.release()
            raise UserError(f"{self._name}: cannot be opened as a video, or has no readable frame")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else DEFAULT_FPS
        self.size = self._first.shape[1::-1]
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if count > 0 and not isinstance(source, int) else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames, uint8 RGB (height, width, 3); may be walked through once."""
        frame, self._first = self._first, None
        while frame is not None:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            frame = self._capture.read()[1]

    def close(self) -> None:
        """Let go of the file or camera."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class VideoWriter:
    """Writes an H.264 MP4 that browsers and players open; needs the extra `video`.

    The file appears under its name when the writer is closed, with all frames written so far.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        """Start a video.

        Raises:
            UserError: imageio with ffmpeg is not installed.
        """
        try:
            import imageio.v2 as imageio
            import imageio_ffmpeg  # noqa: F401
        except ImportError:
            raise UserError(
                "writing videos needs imageio: pip install 'vitpose-jax[video]'"
            ) from None
        self._path = Path(path)
        self._draft = self._path.with_name(f".part-{self._path.name}")
        self._writer = imageio.get_writer(
            self._draft, fps=fps, codec="libx264", quality=7, macro_block_size=1
        )

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 RGB (height, width, 3), all of one size."""
        # H.264 wants even sides: repeat the last row or column of odd ones.
        odd = [(0, side % 2) for side in frame.shape[:2]]
        self._writer.append_data(np.pad(frame, [*odd, (0, 0)], mode="edge"))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
        if self._draft.exists():
            os.replace(self._draft, self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
