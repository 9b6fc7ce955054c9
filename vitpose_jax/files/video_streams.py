"""Decoding videos: PyAV for files and stream addresses, OpenCV for cameras.

Both yield frames with their times, in seconds from the first frame, strictly increasing. Problems
are recorded separately, since a failure would otherwise look like the end of the video.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vitpose_jax.errors import UserError, first_line
from vitpose_jax.files.formats import BEGINNING, format_of
from vitpose_jax.files.pictures import Pixels

DEFAULT_FPS = 30.0
MOST_PIXELS = 2**26
"""Most pixels of a frame: 8192 x 8192."""

# Formats that may be opened; playlists, image sequences and scripts, which name other files, may
# not.
_FILE_FORMATS = (
    "apng,asf,av1,avi,dv,flv,gif,gxf,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,rm,vc1,wtv,yuv4mpegpipe"
)
_STREAM_FORMATS = f"{_FILE_FORMATS},hls,live_flv,mpjpeg,rtp,rtsp,sdp"
_STREAM_PROTOCOLS = "crypto,http,httpproxy,https,rtp,rtsp,srtp,tcp,tls,udp"
_SECONDS_TO_WAIT: float | None = 30.0
_ERRORS_IN_A_ROW = 16
_SOUND_SLACK = 0.15
"""Seconds by which sound may end before the duration that is claimed: coders pad their blocks."""
# Formats whose headers give the length; for others it is an estimate.
_HEADER_WITH_LENGTH = ("asf", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")
# Formats that hold frames without times.
_WITHOUT_TIMES = ("av1", "h263", "h264", "hevc", "m4v", "mjpeg", "mpegvideo", "obu", "vc1")
# Codecs whose packets may hold frames that are not shown.
_HIDDEN_PICTURES = ("mpeg4", "vp8", "vp9", "av1")

# For titles and the like that are not UTF-8; PyAV replaces by itself from version 19 on.
_TOLERANT: dict[str, Any] = (
    {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
)

TimedFrame = tuple[Pixels, float]


class FrameSource(Protocol):
    """A video or a camera.

    Attributes:
        fps: mean frames per second; 30 if unknown.
        frame_count: how many frames the source claims to have; None if unknown.
        problems: what went wrong so far, one line each.
    """

    fps: float
    frame_count: int | None
    problems: list[str]

    def frames(self) -> Iterator[TimedFrame]:
        """Decode the frames, upright."""
        ...

    def close(self) -> None:
        """Release the file or camera."""
        ...


class Camera:
    """A camera by its number; frame times are taken from the clock."""

    frame_count: int | None = None

    def __init__(self, number: int) -> None:
        self._name = f"camera {number}"
        with _silent_opencv():
            self._capture = cv2.VideoCapture(number)
        self.fps = _usable_rate(self._capture.get(cv2.CAP_PROP_FPS))
        self.problems: list[str] = []

    def frames(self) -> Iterator[TimedFrame]:
        """Take pictures until the camera stops delivering them."""
        count, start = 0, time.monotonic()
        while True:
            with _silent_opencv():
                image = self._capture.read()[1]
            if image is None:
                break
            now = time.monotonic()
            start = start if count else now
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), now - start
            count += 1
        if count:
            self.problems.append(f"{self._name}: gave no more pictures after {count}")

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keep OpenCV from printing what our own error says."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


class Media:
    """A video file, or the address of a stream."""

    def __init__(self, source: str | Path) -> None:
        """Open it.

        Raises:
            UserError: it cannot be opened, or has no pictures.
        """
        self._name = str(source)
        self.problems: list[str] = []
        self._resources = contextlib.ExitStack()
        try:
            self._container = self._open(source)
            self._resources.callback(self._container.close)
            self._stream = self._picture_stream()
        except BaseException:
            self._resources.close()
            raise
        self._is_address = not isinstance(source, Path)
        self.fps = _usable_rate(self._stream.average_rate or self._stream.guessed_rate)
        self._duration = self._claimed_duration()
        estimate = round(self._duration * self.fps) if self._duration else 0
        self.frame_count = self._stream.frames or estimate or None
        ticks = float(self._stream.time_base or 1 / self.fps)
        self._clock = _Clock(ticks, self.fps, self._container.format.name == "avi")
        self._packets = self._before_key = self._hidden = self._damaged = self._spoilt = 0
        self._reached = 0.0
        self._begins = min((self._container.start_time or 0) / av.time_base, 0.0)
        heard_or_seen = (*self._container.streams.video, *self._container.streams.audio)
        self._ticks = {s.index: float(s.time_base) for s in heard_or_seen if s.time_base}

    def _open(self, source: str | Path) -> InputContainer:
        formats, protocols, timeout = _STREAM_FORMATS, _STREAM_PROTOCOLS, _SECONDS_TO_WAIT
        try:
            opened: str | NamelessFile = str(source)
            if isinstance(source, Path):
                formats, protocols, timeout = _FILE_FORMATS, "none", None
                opened = self._resources.enter_context(NamelessFile(source))
            return av.open(
                opened,
                "r",
                options={"format_whitelist": formats, "protocol_whitelist": protocols},
                **_TOLERANT,
                buffer_size=2**18,
                timeout=timeout,
            )
        except FileNotFoundError:
            raise UserError(f"{self._name}: no such file") from None
        except av.error.InvalidDataError:
            kind, name = format_of(_beginning(source))
            what = "it is damaged, was not recorded to its end, or is of a format that is not read"
            what = f"it is {name}" if name is not None and kind != "video" else what
            raise UserError(
                f"{self._name}: cannot be opened as a video: {what}; convert it to MP4"
            ) from None
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise UserError(f"{self._name}: cannot be opened as a video ({reason})") from None

    def _picture_stream(self) -> VideoStream:
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in self._container.streams.video if not s.disposition & cover]
        if not streams:
            has = "only sound" if self._container.streams.audio else "no pictures"
            raise UserError(f"{self._name}: cannot be used as a video: it has {has}")
        streams = [s for s in streams if s.codec_context is not None]
        if not streams:
            raise UserError(
                f"{self._name}: cannot be used as a video: nothing here decodes its pictures; "
                "replace it if it is damaged, or convert it to MP4"
            )
        if len(streams) > 1:
            self.problems.append(
                f"{self._name}: has {len(streams)} video streams; only the largest is used"
            )
        stream = max(streams, key=lambda s: (s.width or 0) * (s.height or 0))
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        return stream

    def _claimed_duration(self) -> float | None:
        """Duration in seconds, if the file's header gives it."""
        known = self._container.format.name in _HEADER_WITH_LENGTH
        return (
            self._container.duration / av.time_base if known and self._container.duration else None
        )

    def frames(self) -> Iterator[TimedFrame]:
        """Decode the frames in display order."""
        count, converter = 0, VideoReformatter()
        for frame in self._decoded():
            try:
                image = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            except (av.error.FFmpegError, ValueError, MemoryError):
                self._damaged += 1
                continue
            self._spoilt += frame.is_corrupt
            yield _upright(image, frame.rotation), self._clock(frame)
            count += 1
        self._conclude(count)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        failure: Exception | None = None
        errors = 0
        packets = self._container.demux()
        while errors < _ERRORS_IN_A_ROW:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.error.FFmpegError, OSError) as error:
                failure, errors, packets = error, errors + 1, self._container.demux()
                continue
            errors = 0
            self._note(packet)
            if packet.stream_index == self._stream.index:
                yield from self._decode(packet)
        yield from self._decode(None)  # what is left after an error
        if failure is not None:
            reason = getattr(failure, "strerror", None) or first_line(failure)
            self.problems.append(f"{self._name}: cannot be read in places ({reason})")

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        cut = packet is not None and packet.is_corrupt
        if (
            cut and self._container.format.name != "mpegts"
        ):  # there it may only mark a gap before the packet
            self._damaged += 1
            return []
        try:
            return self._stream.codec_context.decode(packet)
        except (av.error.EOFError, av.error.BlockingIOError):
            return []
        except (av.error.FFmpegError, ValueError, MemoryError):
            self._damaged += 1
            return []

    def _note(self, packet: av.Packet) -> None:
        """Keep track of how far the file goes."""
        if packet.stream_index == self._stream.index and packet.size:
            self._before_key += self._packets == self._before_key and not packet.is_keyframe
            self._packets += 1
            self._hidden += packet.is_discard  # an edit list leaves it out
        ticks = self._ticks.get(packet.stream_index)
        if packet.pts is not None and ticks is not None:
            end = (packet.pts + (packet.duration or 0)) * ticks
            self._reached = max(self._reached, end - self._begins)

    def _conclude(self, count: int) -> None:
        """Record what is missing or was guessed."""
        told = self.problems.append
        shortfall = self._shortfall(count)
        if shortfall is not None:
            told(f"{self._name}: ends after {shortfall}; it is cut short or damaged")
        elif self._container.format.name == "mpegts" and _ends_within_packet(Path(self._name)):
            told(f"{self._name}: ends in the middle of a packet; it is cut short")
        if self._damaged:
            told(f"{self._name}: damaged packets skipped: {self._damaged}")
        if self._spoilt:
            told(f"{self._name}: frames damaged in part: {self._spoilt} of {count}")
        if self._before_key and count:
            told(
                f"{self._name}: begins with {self._before_key} packets that need a frame before "
                "them; frames of theirs may be missing"
            )
        lost = self._packets - self._before_key - self._hidden - self._damaged - count
        if lost > 0 and self._stream.codec_context.name not in _HIDDEN_PICTURES:
            told(f"{self._name}: frames that could not be decoded: {lost}")
        if self._container.format.name in _WITHOUT_TIMES:
            told(f"{self._name}: holds no times; its frames are taken as {self.fps:g} a second")
        elif self._clock.guessed:
            told(
                f"{self._name}: frames without a usable time stamp: {self._clock.guessed} of "
                f"{count}; their times are guessed"
            )

    def _shortfall(self, count: int) -> str | None:
        """How much of the video was read, in words; None if all of it."""
        claimed, read = self._stream.frames, self._packets
        too_few = 0 < read < claimed
        slack = max(1.5 / self.fps, _SOUND_SLACK if self._container.streams.audio else 0)
        too_short = self._duration and self._reached < self._duration - slack
        # An MP4's edit list may leave frames out; its duration is still right.
        if (too_few and (too_short or not self._duration)) or (too_short and not claimed):
            if too_few:
                return f"{count} of {claimed} frames"
            return f"{self._reached:.2f} of {self._duration:.2f} seconds"
        return None

    def close(self) -> None:
        """Release the file or the connection."""
        self._resources.close()


class _Clock:
    """When frames are shown, in seconds from the first one, strictly increasing.

    Like ffmpeg, it uses presentation or decoding time stamps, whichever failed to increase less
    often. A frame without a time stamp follows after one mean frame length; a frame whose stamp
    does not increase follows after half of that, so that the next can be on time again.
    """

    def __init__(self, ticks: float, fps: float, decoding_order: bool) -> None:
        """Start.

        Args:
            ticks: length of a time stamp's unit, in seconds.
            fps: mean frames per second.
            decoding_order: the container has no presentation time stamps.
        """
        self._ticks, self._step, self._decoding_order = ticks, 1 / fps, decoding_order
        self._first: int | None = None
        self._before = {"pts": -math.inf, "dts": -math.inf}
        self._faults = {"pts": 0, "dts": 0}
        self._last, self._in_a_row = -1.0, 0
        self.guessed = 0

    def __call__(self, frame: av.VideoFrame) -> float:
        """The next frame's time."""
        stamp = self._stamp(frame.pts, frame.dts)
        seconds = -1.0
        if stamp is not None:
            self._first = stamp if self._first is None else self._first
            seconds = (stamp - self._first) * self._ticks
        if self._last < 0:
            self._last = 0.0
        elif seconds > self._last:
            self._last, self._in_a_row = seconds, 0
        else:
            self._last += self._step * (1 if self._in_a_row or stamp is None else 0.5)
            self._in_a_row += 1
            # The last frames have no decoding time stamp.
            self.guessed += not (self._decoding_order and stamp is None)
        return self._last

    def _stamp(self, pts: int | None, dts: int | None) -> int | None:
        if self._decoding_order:
            return dts
        for kind, stamp in (("pts", pts), ("dts", dts)):
            if stamp is not None:
                self._faults[kind] += stamp <= self._before[kind]
                self._before[kind] = stamp
        by_pts = pts is not None and (dts is None or self._faults["pts"] <= self._faults["dts"])
        return pts if by_pts else dts


class NamelessFile(contextlib.AbstractContextManager["NamelessFile"]):
    """A file for libraries that must not see its name, since they might interpret it."""

    def __init__(self, path: Path, mode: str = "rb") -> None:
        self._file = open(path, mode)  # noqa: SIM115 (closed in __exit__)
        self.read, self.write, self.flush = self._file.read, self._file.write, self._file.flush
        self.tell, self.close = self._file.tell, self._file.close

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place that a file names; to none before its beginning, which gives -1."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1

    def __exit__(self, *_: object) -> None:
        self.close()


def _beginning(source: str | Path) -> bytes:
    if not isinstance(source, Path):
        return b""
    with open(source, "rb") as file:
        return file.read(BEGINNING)


def _ends_within_packet(path: Path) -> bool:
    """Whether an MPEG transport stream, which has no length, stops inside one of its packets."""
    if not path.is_file():  # an address
        return False
    begins = _beginning(path)
    length = 188 if begins[:1] == b"G" else 192 if begins[4:5] == b"G" else 1
    return bool(path.stat().st_size % length)


def _usable_rate(rate: float | Fraction | None) -> float:
    return float(rate) if rate is not None and 0 < rate <= 1000 else DEFAULT_FPS


def _upright(image: np.ndarray, rotation: int) -> Pixels:
    """Turn a frame anticlockwise by the rotation (degrees) in its metadata."""
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
