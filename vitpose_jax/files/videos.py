"""Videos and cameras as streams of frames, and frames back into a video file."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import Pixels
from vitpose_jax.files.writing import draft_of

DEFAULT_FPS = 30.0
_FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"


class VideoReader(contextlib.AbstractContextManager["VideoReader"]):
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
        name = f"camera {source}" if isinstance(source, int) else str(source)
        if isinstance(source, Path) and not source.exists():
            raise UserError(f"{name}: no such file")
        if not isinstance(source, int) and os.path.isfile(source):
            source = os.path.abspath(source)  # else a colon in the name makes it an address
        self._next: np.ndarray | None
        with _silent_opencv():
            self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
            self._next = self._capture.read()[1]
        if self._next is None:
            self._capture.release()
            raise UserError(f"{name}: cannot be opened as a video, or has no readable frame")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps: float = fps if 0 < fps <= 1000 else DEFAULT_FPS
        height, width = self._next.shape[:2]
        self.size = (width, height)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if count > 0 and not isinstance(source, int) else None

    def __iter__(self) -> Iterator[Pixels]:
        """Iterate over the frames, once."""
        while self._next is not None:
            frame = cv2.cvtColor(self._next, cv2.COLOR_BGR2RGB)
            self._next = None  # while the frame is looked at, memory for one is enough
            yield frame
            with _silent_opencv():
                self._next = self._capture.read()[1]

    def close(self) -> None:
        """Release the file or camera."""
        self._capture.release()

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keep OpenCV and its ffmpeg from printing what our one error says about a damaged file.

    ffmpeg's level is read from the environment when the process opens its first video.
    """
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    mine = _FFMPEG_LEVEL not in os.environ
    if mine:
        os.environ[_FFMPEG_LEVEL] = "-8"
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
        if mine:
            os.environ.pop(_FFMPEG_LEVEL, None)


class VideoWriter(contextlib.AbstractContextManager["VideoWriter"]):
    """Writes an H.264 MP4 that browsers and players open; needs the extra `video`.

    The file appears under its name when the writer is closed, with all frames written so far.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        """Start a video.

        Raises:
            UserError: imageio with ffmpeg is not installed.
        """
        try:
            import imageio_ffmpeg

            self._ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            raise UserError(
                "writing videos needs ffmpeg: pip install 'vitpose-jax[video]'"
            ) from None
        self._path, self._fps = Path(path), fps
        # Absolute, as ffmpeg takes what stands before a colon for a protocol.
        self._draft = draft_of(self._path.absolute())
        self._process: subprocess.Popen[bytes] | None = None
        self._shape: tuple[int, ...] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 RGB (height, width, 3), all of one size.

        Raises:
            UserError: the frame is no such array or of another size than the first; or ffmpeg
                cannot be started or gave up, for instance because the disk is full.
        """
        expected = self._shape or (*frame.shape[:2], 3)
        if frame.shape != expected or frame.dtype != np.uint8:
            raise UserError(
                f"{self._path}: a frame is {frame.dtype} {frame.shape}, where uint8 {expected} "
                "was expected; the video ends before it"
            )
        # H.264 wants even sides: repeat the last row or column of odd ones.
        odd = [(0, side % 2) for side in frame.shape[:2]]
        padded = np.pad(frame, [*odd, (0, 0)], mode="edge")
        if self._shape is None:
            self._process = self._start(padded.shape[1], padded.shape[0])
            self._shape = expected
        if self._process is None:
            raise self._failure()
        assert self._process.stdin is not None  # it is a pipe
        try:
            self._process.stdin.write(padded.tobytes())
        except BrokenPipeError:
            self._finish()
            raise self._failure() from None

    def _start(self, width: int, height: int) -> subprocess.Popen[bytes]:
        raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self._fps} -i -"
        encoded = "-c:v libx264 -crf 20 -pix_fmt yuv420p -movflags +faststart"
        command = [self._ffmpeg, "-y", "-loglevel", "error", *raw.split(), *encoded.split()]
        try:
            return subprocess.Popen(
                [*command, str(self._draft)],
                stdin=subprocess.PIPE,
                stderr=self._log,
                process_group=0,  # so that Ctrl-C reaches only us, and the file gets finished
            )
        except OSError as error:
            raise UserError(
                f"{self._path}: ffmpeg ({self._ffmpeg}) cannot be started ({error.strerror})"
            ) from None

    def _finish(self) -> bool:
        """Let ffmpeg finish, if it runs, and return whether it made a video."""
        process, self._process = self._process, None
        if process is None:
            return False
        process.communicate()
        if process.returncode != 0:
            self._draft.unlink(missing_ok=True)
        return process.returncode == 0

    def _failure(self) -> UserError:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines() or ["no reason"]
        return UserError(f"{self._path}: ffmpeg cannot write this video ({lines[-1]})")

    def close(self) -> bool:
        """Finish the file and return whether there is one.

        There is none without a frame, or after an error of ffmpeg's that `write` has raised.

        Raises:
            UserError: ffmpeg gave up at the end, or the file cannot get its name.
        """
        with self._log:
            if self._process is None:
                return False
            if not self._finish():
                raise self._failure()
            try:
                os.replace(self._draft, self._path)
            except OSError as error:
                raise UserError(
                    f"{self._path}: cannot be written ({error.strerror}); the video is in "
                    f"{self._draft}"
                ) from None
            return True

    def __exit__(self, *_: object) -> None:
        self.close()
