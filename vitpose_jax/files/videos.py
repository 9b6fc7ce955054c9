"""Videos and cameras as streams of frames, and frames back into a video file."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vitpose_jax.errors import UserError, first_line
from vitpose_jax.files.pictures import Pixels
from vitpose_jax.files.video_streams import Camera, FrameSource, Media, NamelessFile, TimedFrame
from vitpose_jax.files.writing import draft_of

_TICKS = 90_000  # time stamps of written videos per second


class VideoReader(contextlib.AbstractContextManager["VideoReader"]):
    """The frames of a video file or camera, one after another, all the size of the first.

    Attributes:
        fps: mean frames per second (30 if unknown).
        size: (width, height) of the upright frames.
        frame_count: how many frames the file claims to have; None if unknown.
        time: the last frame's time, in seconds from the first one; it increases strictly.
        problems: what went wrong so far, one line each; complete after the last frame.
    """

    def __init__(self, source: str | Path | int) -> None:
        """Open a file (a path), a camera (its number) or a stream (its address, a string).

        A string is taken as a file if one of that name exists.

        Raises:
            UserError: it cannot be opened or has no frame.
        """
        self._name = f"camera {source}" if isinstance(source, int) else str(source)
        if isinstance(source, str) and os.path.exists(source):
            source = Path(source)
        self._source: FrameSource = Camera(source) if isinstance(source, int) else Media(source)
        self._frames = self._source.frames()
        self._next: TimedFrame | None = next(self._frames, None)
        if self._next is None:
            self._source.close()
            raise UserError(f"{self._name}: cannot be opened as a video, or has no readable frame")
        self.fps, self.frame_count = self._source.fps, self._source.frame_count
        height, width = self._next[0].shape[:2]
        self.size = (width, height)
        self.time, self._index = 0.0, -1
        self.problems = self._source.problems

    def __iter__(self) -> Iterator[Pixels]:
        """Iterate over the frames, once."""
        resized = False
        while self._next is not None:
            frame, self.time = self._next
            self._index += 1
            self._next = None  # hold only one frame in memory while the caller uses it
            if frame.shape[1::-1] != self.size:
                if not resized:
                    height, width = frame.shape[:2]
                    self.problems.append(
                        f"{self._name}: frame {self._index} is {width}x{height} instead of "
                        f"{self.size[0]}x{self.size[1]}; frames of other sizes are scaled to the "
                        "first one's, and so are their keypoints"
                    )
                frame, resized = _fit(frame, self.size), True
            yield frame
            self._next = next(self._frames, None)

    def close(self) -> None:
        """Release the file or camera."""
        self._source.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _fit(frame: Pixels, size: tuple[int, int]) -> Pixels:
    """Fit a frame into (width, height), keeping its proportions, on a black background."""
    height, width = frame.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = max(1, round(scale * width)), max(1, round(scale * height))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    scaled = cv2.resize(frame, inner, interpolation=cv2.INTER_AREA)
    canvas[top : top + inner[1], left : left + inner[0]] = scaled
    return canvas


class VideoWriter(contextlib.AbstractContextManager["VideoWriter"]):
    """Writes an H.264 MP4 that browsers and players open.

    The file appears under its name when the writer is closed, with all frames written so far.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        """Start a video of about `fps` frames a second.

        Raises:
            UserError: the installed PyAV has no encoder.
        """
        if "libx264" not in av.codecs_available:
            raise UserError(
                f"{path}: PyAV has no H.264 encoder here: pip install --force-reinstall "
                "--no-binary :none: av"
            )
        self._path, self._fps = Path(path), fps
        self._draft = draft_of(self._path)
        self._output: tuple[OutputContainer, VideoStream] | None = None
        self._shape: tuple[int, ...] | None = None
        self._count, self._last_tick = 0, -1
        self._converter = VideoReformatter()
        self._resources = contextlib.ExitStack()

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Append a frame, uint8 RGB (height, width, 3), all of one size.

        Args:
            frame: the picture.
            time: when it is shown, in seconds from the start; by default according to `fps`.

        Raises:
            UserError: the frame is not such an array, or has another size than the first; or the
                file cannot be written, for instance because the disk is full.
        """
        expected = self._shape or (*frame.shape[:2], 3)
        if frame.shape != expected or frame.dtype != np.uint8:
            raise UserError(
                f"{self._path}: a frame is {frame.dtype} {frame.shape}, where uint8 {expected} "
                "was expected; the video ends before it"
            )
        # H.264 needs even sides: repeat the last row or column of odd ones.
        odd = [(0, side % 2) for side in frame.shape[:2]]
        padded = np.pad(frame, [*odd, (0, 0)], mode="edge") if np.any(odd) else frame
        time = self._count / self._fps if time is None else time
        self._last_tick = max(self._last_tick + 1, round(time * _TICKS))
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        picture.pts, picture.time_base = self._last_tick, Fraction(1, _TICKS)
        with self._explained():
            if self._shape is None:
                self._output, self._shape = self._start(padded.shape[1], padded.shape[0]), expected
            self._encode(self._converter.reformat(picture, format="yuv420p", threads=1))
        self._count += 1

    def _start(self, width: int, height: int) -> tuple[OutputContainer, VideoStream]:
        file = self._resources.enter_context(NamelessFile(self._draft, "wb"))

        def read_again(*_: object) -> NamelessFile:
            file.flush()
            return NamelessFile(self._draft)

        options = {"movflags": "+faststart"}  # reads the file again to move its index
        container = av.open(file, "w", format="mp4", options=options, io_open=read_again)
        rate = Fraction(self._fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_type = "AUTO"  # the default is slices, which are slower and larger
        stream.codec_context.time_base = stream.time_base = Fraction(1, _TICKS)
        return container, stream

    def _encode(self, picture: av.VideoFrame | None) -> None:
        if self._output is None:
            raise UserError(f"{self._path}: can no longer be written")
        container, stream = self._output
        container.mux(stream.encode(picture))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Give up the file if an error occurs."""
        try:
            yield
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self._give_up()
            reason = getattr(error, "strerror", None) or first_line(error)
            raise UserError(f"{self._path}: the video cannot be written ({reason})") from None

    def _give_up(self) -> None:
        self._output = None
        self._resources.close()
        self._draft.unlink(missing_ok=True)

    def close(self) -> bool:
        """Finish the file and return whether there is one.

        There is none if no frame was written, or after `write` has raised an error.

        Raises:
            UserError: the end cannot be written, or the file cannot be renamed.
        """
        if self._output is None:
            return False
        with self._explained():
            self._encode(None)
            self._output[0].close()
        self._output = None
        self._resources.close()
        try:
            os.replace(self._draft, self._path)
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); the video is in {self._draft}"
            ) from None
        return True

    def __exit__(self, *_: object) -> None:
        self.close()
