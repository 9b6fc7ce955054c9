"""From the user's inputs to tracked people, frame by frame.

    sources -> frames -> estimator -> track, smooth -> sinks

Problems and notes for the user are returned as a `Report`.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vitpose_jax.data.coco.ids import Id
from vitpose_jax.errors import Terminated, UserError
from vitpose_jax.files.videos import VideoReader
from vitpose_jax.inference.boxes import BoxFile
from vitpose_jax.inference.estimator import PoseEstimator, Prediction
from vitpose_jax.inference.inputs import Source, SourceKind
from vitpose_jax.inference.person import Person, drop_duplicates
from vitpose_jax.inference.preparation import BoxSource
from vitpose_jax.inference.smoothing import PoseSmoother
from vitpose_jax.inference.tracking import Tracker

LARGEST_KEPT = 2**23
"""In bytes; larger pictures do not wait in memory for a sink."""
MOST_PROBLEMS = 1000
"""How many problems a report holds, so that it stays small however many inputs are bad."""
DAMAGED_WEIGHTS = "the network gives scores that are not numbers (null): are the weights damaged?"


@dataclass(frozen=True)
class Frame:
    """A picture, or one frame of a video, with the people in it.

    Attributes:
        source: the picture or the video.
        total: how many pictures there are, or frames the video claims to have.
        index: the frame's number in its video, from 0; None for pictures.
        time: the frame's time in its video, in seconds from the first one; None for pictures.
        fps: the video's mean frames per second; None for pictures.
        people: in the boxes' order; with track numbers in videos.
        identity: (file name, image id) for results, if a box file has its own.
        image_wh: (width, height) in pixels.
        image: uint8 RGB, if a sink needs it; but not that of a picture of more than LARGEST_KEPT
            bytes, which the sink must read again.
        problems: what is wrong with it, one line each.
        error: why the picture or the whole video cannot be used.
        restart: whether what follows is computed independently of it and of all before it.
    """

    source: Source
    total: int | None = None
    index: int | None = None
    time: float | None = None
    fps: float | None = None
    people: list[Person] = field(default_factory=list)
    identity: tuple[str, Id | None] | None = None
    image_wh: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None
    problems: Sequence[str] = ()
    error: UserError | None = None
    restart: bool = False


Frames = Generator[Frame, None, None]


@dataclass(frozen=True)
class Report:
    """The outcome of a run or of a part of it; reports can be added.

    Attributes:
        frames: number of pictures and frames that could be used.
        people: number of people found in them.
        unusable: number of sources that could not be used.
        problems: what went wrong, one line each; only the first `MOST_PROBLEMS`.
        more_problems: how many were left out.
        notes: what else the user should know, such as where something was written.
        ended_by: the exception that ended the run early, for the caller to raise.
    """

    frames: int = 0
    people: int = 0
    unusable: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ended_by: Exception | KeyboardInterrupt | None = None
    more_problems: int = 0

    def __add__(self, other: "Report") -> "Report":
        problems, more = self.problems, self.more_problems + other.more_problems
        if other.problems:
            both = tuple(dict.fromkeys(problems + other.problems))
            problems, more = both[:MOST_PROBLEMS], more + len(both[MOST_PROBLEMS:])
        return Report(
            self.frames + other.frames,
            self.people + other.people,
            self.unusable + other.unusable,
            problems,
            tuple(dict.fromkeys(self.notes + other.notes)),
            other.ended_by or self.ended_by,
            more,
        )


class Sink:
    """Consumes frames in order: a file of results, drawn pictures, a progress bar.

    Attributes:
        needs_images: the kinds of sources whose images it needs.
    """

    needs_images: frozenset[SourceKind] = frozenset()

    def write(self, frame: Frame) -> None:
        """Take a frame, even one that could not be used; raising an error ends the run."""
        raise NotImplementedError

    def end(self, source: Source, report: Report) -> None:
        """Take the end of a video, with the problems found in its file."""

    def settle(self) -> Report:
        """Wait until all pictures and ended videos are on disk; report what is new since."""
        return Report()

    def close(self) -> Report:
        """Finish, even after an error; report what is new since `settle`."""
        return Report()


@dataclass(frozen=True)
class Pipeline:
    """How people are found in pictures and videos.

    Attributes:
        estimator: finds the keypoints.
        finder: locates people: boxes from a file, a detector, or None to take every whole image as
            one person.
        nms: drop near-duplicate poses (OKS above 0.9).
        smooth: smooth the poses in videos.
    """

    estimator: PoseEstimator
    finder: BoxFile | Callable[[np.ndarray], np.ndarray] | None = None
    nms: bool = False
    smooth: bool = False

    def run(self, sources: Sequence[Source], sinks: Sequence[Sink]) -> Report:
        """Find the people of the sources, pictures first, and pass them to every sink.

        Sinks are closed whatever happens, so that results so far are kept; errors and Ctrl-C are
        returned in the report. For a camera, Ctrl-C is the normal end.
        """
        pictures = [source for source in sources if source.kind == "image"]
        needed = frozenset[SourceKind]().union(*(sink.needs_images for sink in sinks))
        report = _drain(self.pictures(pictures, "image" in needed), sinks)
        for video in in_order(sources)[len(pictures) :]:
            if report.ended_by is None:
                report += self._run_video(video, sinks, video.kind in needed)
        for sink in sinks:
            try:
                report += sink.close()
            except (Exception, KeyboardInterrupt) as error:
                report += Report(ended_by=error)
        return report

    def pictures(self, sources: Sequence[Source], keep_images: bool) -> Frames:
        """The people of many pictures, in order."""
        items = ((source.location, self._boxes(source)) for source in sources)
        stream = self.estimator.stream(
            items, skip_errors=True, keep_images=keep_images, largest_kept=LARGEST_KEPT
        )
        for source, prediction in zip(sources, stream, strict=True):
            yield self._checked(Frame(source, len(sources)), prediction)

    def _run_video(self, source: Source, sinks: Sequence[Sink], keep_images: bool) -> Report:
        """Pass a video's frames to the sinks; the report includes problems with the file."""
        try:
            reader = _open_video(source)
        except UserError as error:
            report = _drain((frame for frame in [Frame(source, error=error)]), sinks)
            return report + _end(source, Report(), sinks, report)
        with reader:
            frames = self.video(source, reader, keep_images)
            report = _drain(frames, sinks, endless=source.kind == "camera")
            problems = tuple(reader.problems)
            if isinstance(self.finder, BoxFile) and report.frames and not report.ended_by:
                problems += self.finder.beyond(source, report.frames)
        return report + _end(source, Report(problems=problems), sinks, report)

    def video(self, source: Source, reader: VideoReader, keep_images: bool) -> Frames:
        """The people of a video's frames, in order, with track numbers."""
        tracker = Tracker(self.estimator.skeleton)
        smoother = PoseSmoother() if self.smooth else None
        times = deque[float]()  # of the frames on their way

        def items() -> Iterator[tuple[np.ndarray, BoxSource]]:
            for index, image in enumerate(reader):
                times.append(reader.time)
                yield image, self._boxes(source, index)

        for index, prediction in enumerate(self.estimator.stream(items(), keep_images=keep_images)):
            time = times.popleft()
            frame = Frame(source, reader.frame_count, index, time, reader.fps)
            frame = self._checked(frame, prediction)
            people = tracker.update(frame.people, time)
            yield replace(frame, people=smoother.update(people, time) if smoother else people)

    def _boxes(self, source: Source, index: int | None = None) -> BoxSource:
        return self.finder.of(source, index) if isinstance(self.finder, BoxFile) else self.finder

    def _checked(self, frame: Frame, prediction: Prediction) -> Frame:
        """The frame with the people found (without duplicates if `nms`) and any problems."""
        people, problems, identity = prediction.people, list[str](), None
        if isinstance(self.finder, BoxFile):
            identity = self.finder.identity(frame.source, frame.index)
            people, problems = self.finder.check(
                people, frame.source, frame.index, prediction.image_wh
            )
        problems += [prediction.problem] if prediction.problem else []
        if not all(np.isfinite(person.keypoint_scores).all() for person in people):
            problems.append(DAMAGED_WEIGHTS)
        if self.nms:
            people = drop_duplicates(people, self.estimator.skeleton, self.estimator.input_size)
        return replace(
            frame,
            people=people,
            identity=identity,
            image_wh=prediction.image_wh,
            image=prediction.image,
            problems=problems,
            error=prediction.error,
            restart=prediction.batch_ends and frame.source.kind == "image",
        )


def in_order(sources: Sequence[Source]) -> list[Source]:
    """Sources in the order in which they are processed: pictures, then videos and cameras."""
    return sorted(sources, key=lambda source: source.kind != "image")


def _open_video(source: Source) -> VideoReader:
    if source.kind == "video":
        return VideoReader(Path(source.location))
    return VideoReader(int(source.location) if source.location.isdigit() else source.location)


def _end(source: Source, report: Report, sinks: Sequence[Sink], before: Report) -> Report:
    """Pass the end of a video to the sinks, unless the run ended before; the report to add."""
    try:
        if before.ended_by is None:
            for sink in sinks:
                sink.end(source, report)
    except (Exception, KeyboardInterrupt) as error:
        report += Report(ended_by=error)
    return report


def _drain(frames: Frames, sinks: Sequence[Sink], endless: bool = False) -> Report:
    """Pass frames to the sinks until the last one or an error."""
    count = people = 0
    bad = Report()
    ended_by: Exception | KeyboardInterrupt | None = None
    try:
        with contextlib.closing(frames):
            for frame in frames:
                for sink in sinks:
                    sink.write(frame)
                if frame.error is not None:
                    bad += Report(unusable=1, problems=(str(frame.error),))
                    continue
                count += 1
                people += len(frame.people)
                if frame.problems:
                    bad += Report(problems=tuple(frame.problems))
    except Exception as error:
        ended_by = error
    except KeyboardInterrupt as interrupt:
        ended_by = None if endless and not isinstance(interrupt, Terminated) else interrupt
    return Report(count, people, ended_by=ended_by) + bad
