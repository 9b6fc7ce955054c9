"""The pipeline: frames reach every sink in order; what goes wrong comes back as a report."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference import pipeline
from vitpose_jax.inference.estimator import Prediction
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.pipeline import Frame, Pipeline, Report, Sink
from vitpose_jax.keypoints.skeletons import SKELETONS

PICTURES = [Source("image", f"{name}.jpg", f"{name}.jpg") for name in "abc"]
VIDEO, CAMERA = Source("video", "v.mp4", "v.mp4"), Source("camera", "0", "camera0")


class Collector(Sink):
    """Keeps what it is given, and may fail at a frame or at the end."""

    needs_images = frozenset({"video"})

    def __init__(self, at: int = -1, error: BaseException | None = None) -> None:
        self.frames: list[Frame] = []
        self.at, self.error, self.closed = at, error, 0

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)
        if len(self.frames) == self.at:
            raise self.error

    def close(self) -> Report:
        self.closed += 1
        if self.at == 0:
            raise self.error
        return Report(notes=("closed",))


@pytest.fixture
def people_finder(
    make_person: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pipeline]:
    """One person in every image but b.jpg, which cannot be read; three frames in every video."""

    def stream(items: Iterable, keep_images: bool, **_: Any) -> Iterator[Prediction]:
        for image, _boxes in items:
            if isinstance(image, str) and image == "b.jpg":
                yield Prediction([], error=UserError("b.jpg: broken"))
            else:
                kept = np.zeros((9, 9, 3), np.uint8) if keep_images else None
                yield Prediction([make_person(10, 10)], (9, 9), kept)

    class Reader:
        fps, frame_count = 10.0, 3
        time = 0.0
        problems = ("v.mp4: ends early",)

        def __init__(self, location: Path | int) -> None:
            if location == Path("gone.mp4"):
                raise UserError("gone.mp4: no such file")

        def __iter__(self) -> Iterator[np.ndarray]:
            for index in range(3):
                self.time = index / 10
                yield np.zeros((9, 9, 3), np.uint8)

        def __enter__(self) -> "Reader":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(pipeline, "VideoReader", Reader)
    skeleton = SKELETONS["coco"]
    estimator = SimpleNamespace(stream=stream, skeleton=skeleton, input_size=(256, 192))
    return Pipeline(estimator)


def test_frames_in_order_and_images_where_a_sink_needs_them(people_finder: Pipeline) -> None:
    sinks = [Collector(), Collector()]
    report = people_finder.run([VIDEO, *PICTURES, Source("video", "gone.mp4", "gone")], sinks)
    for sink in sinks:
        assert [(frame.source.name, frame.index) for frame in sink.frames] == [
            *(("a.jpg", None), ("b.jpg", None), ("c.jpg", None)),
            *(("v.mp4", 0), ("v.mp4", 1), ("v.mp4", 2), ("gone", None)),
        ]
        assert [frame.image is not None for frame in sink.frames] == [False] * 3 + [True] * 3 + [
            False
        ]
        assert [person.track for frame in sink.frames for person in frame.people] == [
            *(None, None),
            *(1, 1, 1),
        ]
        assert sink.closed == 1
    problems = ("b.jpg: broken", "v.mp4: ends early", "gone.mp4: no such file")
    assert report == Report(5, 5, 2, problems, ("closed",))


@pytest.mark.parametrize("error", [UserError("no room"), ZeroDivisionError(), KeyboardInterrupt()])
def test_what_ends_a_run_is_reported_and_every_sink_closed(
    people_finder: Pipeline, error: Exception
) -> None:
    sinks = [Collector(), Collector(at=3, error=error)]
    report = people_finder.run([*PICTURES, VIDEO], sinks)
    assert report.ended_by is error
    assert (report.frames, report.problems) == (1, ("b.jpg: broken",))
    assert [len(sink.frames) for sink in sinks] == [3, 3]
    assert [sink.closed for sink in sinks] == [1, 1]


def test_a_sink_that_cannot_be_closed_keeps_no_other_from_it(people_finder: Pipeline) -> None:
    error = UserError("disk full")
    sinks = [Collector(at=0, error=error), Collector()]
    report = people_finder.run(PICTURES, sinks)
    assert (report.frames, report.ended_by) == (2, error)
    assert [sink.closed for sink in sinks] == [1, 1]


def test_ctrl_c_ends_a_camera_but_not_the_run(people_finder: Pipeline) -> None:
    sink = Collector(at=2, error=KeyboardInterrupt())
    report = people_finder.run([CAMERA, VIDEO], [sink])
    assert report.ended_by is None
    assert [(frame.source.name, frame.index) for frame in sink.frames] == [
        *(("camera0", 0), ("camera0", 1)),
        *(("v.mp4", 0), ("v.mp4", 1), ("v.mp4", 2)),
    ]
