"""`vitpose forecast`, from the command line to the files."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.cli import main
from vitpose_jax.files.videos import VideoReader, VideoWriter
from vitpose_jax.inference import model_network, preparation
from vitpose_jax.inference.keypoint_file import read_keypoints
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.results import coco_result, write_results
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.weights.forecaster import build_forecaster, save_forecaster

TINY = {"kind": "forecaster", "width": 8, "num_heads": 2, "readout_width": 8, "readout_depth": 1}


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zero velocity, as a folder of weights."""
    folder = tmp_path_factory.mktemp("weights") / "still"
    save_forecaster(build_forecaster(TINY), folder)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 frames of a bright rectangle that moves."""
    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    with VideoWriter(path, 30) as writer:
        for index in range(14):
            frame = np.zeros((160, 200, 3), np.uint8)
            frame[30:140, 40 + 3 * index : 90 + 3 * index] = 250
            writer.write(frame)
    return path


def keypoints_json(path: Path, make_person: Callable[..., Person], frames: int = 14) -> Path:
    """Two people; the second is there from frame 8 on."""
    results = []
    for index in range(frames):
        people = [make_person(20 + 3 * index, 5, track=1)]
        people += [make_person(120, 5, track=2)] if index >= 8 else []
        results += [coco_result(person, "walk.mp4", None, index) for person in people]
    write_results(path, results)
    return path


def entry(**more: object) -> str:
    """A keypoint file of one person, as text."""
    return json.dumps([{"frame": 0, "keypoints": [1.0] * 51} | more])


def test_out_that_is_a_file_is_refused_before_anything_is_computed(
    tmp_path: Path, forecaster: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("kept")
    command = ["forecast", str(video), "--weights", str(forecaster), "--out", str(taken)]
    assert main(command) == 2
    assert f"{taken}: the folder cannot be made" in capsys.readouterr().err
    assert taken.read_text() == "kept"


def test_from_a_keypoint_file(
    tmp_path: Path, forecaster: Path, video: Path, make_person: Callable[..., Person]
) -> None:
    source = keypoints_json(tmp_path / "keypoints.json", make_person)
    out = tmp_path / "out"
    command = ["forecast", str(source), "--weights", str(forecaster), "--out", str(out)]
    assert main([*command, "--video", str(video)]) == 0
    found = json.loads((out / "forecast.json").read_text())
    assert [(entry["frame"], entry["track_id"]) for entry in found] == [
        (frame, 1) for frame in range(9, 14)
    ]
    person = make_person(20 + 3 * 11, 5)
    future = np.array(found[2]["keypoints"])
    np.testing.assert_allclose(future, np.tile(person.keypoints, (5, 1, 1)), atol=0.02)
    assert found[2]["after_seconds"] == [round(k / 30, 4) for k in range(1, 6)]
    with VideoReader(out / "walk.forecast.mp4") as drawn, VideoReader(video) as plain:
        pairs = list(zip(drawn, plain, strict=True))
    assert len(pairs) == 14
    assert np.abs(pairs[11][0].astype(int) - pairs[11][1]).max() > 100


def test_from_a_video(tmp_path: Path, forecaster: Path, video: Path, weights: Path) -> None:
    out = tmp_path / "out"
    models = ["--weights", str(forecaster), "--pose-weights", str(weights), "--num-heads", "3"]
    rest = ["--detector", "none", "--min-score", "0", "--out", str(out)]
    assert main(["forecast", str(video), *models, *rest]) == 0
    found = json.loads((out / "forecast.json").read_text())
    assert {entry["frame"] for entry in found} <= set(range(9, 14))
    assert found
    assert (out / "walk.forecast.mp4").exists()
    assert len(json.loads((out / "keypoints.json").read_text())) == 14


def test_other_frame_rates(
    tmp_path: Path,
    forecaster: Path,
    make_person: Callable[..., Person],
    capsys: pytest.CaptureFixture,
) -> None:
    source = keypoints_json(tmp_path / "keypoints.json", make_person)
    command = ["forecast", str(source), "--weights", str(forecaster), "--fps", "15"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert "15 frames a second, resampled to the forecaster's 30" in said
    assert "5 poses each, 0.0333 to 0.167 s ahead" in said
    found = json.loads((tmp_path / "a" / "forecast.json").read_text())
    assert {entry["track_id"] for entry in found} == {1, 2}  # 6 frames at 15 are 11 at 30
    assert found[0]["time"] == round(found[0]["frame"] / 15, 4)


def test_how_far_off_a_forecast_may_be(
    tmp_path: Path, video: Path, make_person: Callable[..., Person]
) -> None:
    folder = tmp_path / "weights"
    save_forecaster(build_forecaster(TINY | {"spread": True}), folder)
    source, out = keypoints_json(tmp_path / "keypoints.json", make_person), tmp_path / "out"
    command = ["forecast", str(source), "--weights", str(folder), "--video", str(video)]
    assert main([*command, "--out", str(out)]) == 0
    found = json.loads((out / "forecast.json").read_text())
    inner, outer = (np.array(found[0][f"radii_{share}"]) for share in (50, 90))
    assert inner.shape == np.array(found[0]["keypoints"]).shape[:2]
    assert (outer > inner).all()
    assert (inner[-1] > inner[0]).all()
    with VideoReader(out / "walk.forecast.mp4") as drawn, VideoReader(video) as plain:
        pairs = list(zip(drawn, plain, strict=True))
    assert np.abs(pairs[-1][0].astype(int) - pairs[-1][1]).max() > 50


@pytest.mark.parametrize("fps", [15, 60, 50])
def test_resampled_forecasts_are_of_the_videos_frames(
    tmp_path: Path, forecaster: Path, make_person: Callable[..., Person], fps: int
) -> None:
    """Someone comes into sight in frame 100; the forecaster, at 30, expects them to stand still."""
    people = {index: make_person(3 * index, 5, track=1) for index in range(100, 140)}
    source, out = tmp_path / "keypoints.json", tmp_path / "out"
    write_results(source, [coco_result(p, "walk.mp4", None, i) for i, p in people.items()])
    command = ["forecast", str(source), "--weights", str(forecaster), "--fps", str(fps)]
    assert main([*command, "--out", str(out)]) == 0
    found = json.loads((out / "forecast.json").read_text())
    first = 100 + math.ceil(9 * fps / 30)  # ten frames at the forecaster's rate
    frames = [entry["frame"] for entry in found]
    assert frames[0] == first
    assert set(frames) <= set(range(first, 140))
    for entry in found:
        last_seen = entry["frame"] + (entry["after_seconds"][0] - 1 / 30) * fps
        assert entry["frame"] - 1 < last_seen < entry["frame"] + 0.01
        left = np.array(entry["keypoints"])[0] - make_person(0, 5).keypoints
        np.testing.assert_allclose(left[:, 0], 3 * last_seen, atol=0.05)


@pytest.mark.parametrize("fps", ["0", "-5", "nan", "inf"])
def test_rates_that_cannot_be(forecaster: Path, capsys: pytest.CaptureFixture, fps: str) -> None:
    assert main(["forecast", "k.json", "--weights", str(forecaster), f"--fps={fps}"]) == 2
    assert f"--fps {fps}: must be a number" in capsys.readouterr().err


def test_a_forecaster_that_gives_no_numbers(
    tmp_path: Path, make_person: Callable[..., Person]
) -> None:
    model = build_forecaster(TINY)
    nnx.update(model, jax.tree.map(lambda x: x * np.nan, nnx.state(model, nnx.Param)))
    save_forecaster(model, tmp_path / "nan")
    source = keypoints_json(tmp_path / "keypoints.json", make_person)
    command = ["forecast", str(source), "--weights", str(tmp_path / "nan")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "forecast.json").read_text())
    assert found[0]["keypoints"][0][0] == [None, None]


def test_an_interrupted_video_keeps_the_people_found(
    tmp_path: Path,
    forecaster: Path,
    video: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = VideoReader.__iter__

    def interrupted(reader: VideoReader):
        for index, frame in enumerate(plain(reader)):
            if index == 13:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(VideoReader, "__iter__", interrupted)
    monkeypatch.setattr(preparation, "WORKERS", 1)
    monkeypatch.setattr(model_network, "CPU_BATCH", 2)
    models = ["--weights", str(forecaster), "--pose-weights", str(weights), "--num-heads", "3"]
    command = ["forecast", str(video), *models, "--detector", "none"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 130
    found = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert [entry["frame"] for entry in found] == list(range(len(found)))
    assert found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "nobody was found"),
        ("{", "is not JSON"),
        ('[{"keypoints": [1, 2, 3]}]', "no usable `frame`"),
        ('[{"frame": 0, "keypoints": [1, 2, 3]}]', "has 1 keypoints, the forecaster knows 17"),
        ('[{"frame": 0}]', "`keypoints` is not"),
        ('[{"frame": 0, "file_name": "a"}, {"frame": 0, "file_name": "b"}]', "holds 2 videos"),
        ('[{"frame": 0, "file_name": ["a"]}, {"frame": 0}]', "holds 2 videos"),
        ("[" * 100000, "is not JSON"),
        (entry(keypoints=[10**400] * 51), "`keypoints` is not"),
        (entry(bbox=["a", 1, 2, 3]), "bbox must be four numbers"),
        (entry(bbox=7), "bbox must be four numbers"),
        (entry(bbox_score="x"), "bbox_score must be"),
        (entry(frame=True), "no usable `frame`"),
        (entry(frame=0.5), "no usable `frame`"),
        (entry(frame=2**63), "no usable `frame`"),
        (entry(frame=None, image_id="a.jpg"), "no usable `frame`"),
        (entry(track_id="x"), "track_id must be a whole number"),
        (entry(track_id=1.5), "track_id must be a whole number"),
        (f"[{entry(track_id=2)[1:-1]}, {entry(track_id='2')[1:-1]}]", "has track_id 2 twice"),
    ],
)
def test_keypoint_files_that_cannot_be(
    tmp_path: Path, forecaster: Path, capsys: pytest.CaptureFixture, content: str, said: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    out = str(tmp_path / "out")
    assert main(["forecast", str(path), "--weights", str(forecaster), "--out", out]) == 2
    assert said in capsys.readouterr().err


def test_numbers_in_other_forms(
    tmp_path: Path, forecaster: Path, make_person: Callable[..., Person]
) -> None:
    source = keypoints_json(tmp_path / "keypoints.json", make_person)
    command = ["forecast", str(source), "--weights", str(forecaster)]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    entries = json.loads(source.read_text())
    for number, found in enumerate(entries):
        found["frame"] = str(found["frame"]) if number % 2 else float(found["frame"])
        found["track_id"] = f"{found['track_id']}"
    source.write_text(json.dumps(entries))
    assert main([*command, "--out", str(tmp_path / "b")]) == 0
    results = [(tmp_path / folder / "forecast.json").read_text() for folder in "ab"]
    assert results[0] == results[1]


def test_no_input_is_written_to(
    tmp_path: Path,
    forecaster: Path,
    video: Path,
    make_person: Callable[..., Person],
    capsys: pytest.CaptureFixture,
) -> None:
    source = keypoints_json(tmp_path / "forecast.json", make_person)
    before, out = source.read_text(), ["--out", str(tmp_path)]
    assert main(["forecast", str(source), "--weights", str(forecaster), *out]) == 2
    assert "forecast.json: would be written, but is the input" in capsys.readouterr().err
    boxes = source.rename(tmp_path / "keypoints.json")
    models = ["--weights", str(forecaster), "--pose-weights", "w", "--boxes", str(boxes)]
    assert main(["forecast", str(video), *models, *out]) == 2
    assert "keypoints.json: would be written, but is the input" in capsys.readouterr().err
    assert boxes.read_text() == before


def test_a_video_that_cannot_be_drawn_on_is_status_1(
    tmp_path: Path,
    forecaster: Path,
    make_person: Callable[..., Person],
    capsys: pytest.CaptureFixture,
) -> None:
    source = keypoints_json(tmp_path / "keypoints.json", make_person)
    command = ["forecast", str(source), "--weights", str(forecaster), "--out", str(tmp_path / "o")]
    assert main([*command, "--video", str(tmp_path / "gone.mp4")]) == 1
    assert "no video: " in capsys.readouterr().err
    assert json.loads((tmp_path / "o/forecast.json").read_text())


def test_what_is_missing_is_said(
    tmp_path: Path,
    forecaster: Path,
    video: Path,
    make_person: Callable[..., Person],
    capsys: pytest.CaptureFixture,
) -> None:
    out = ["--out", str(tmp_path / "out")]
    command = ["forecast", str(video), "--weights", str(forecaster), "--detector", "none", *out]
    assert main([*command, "--pose-weights", "base-simpel"]) == 2
    assert "did you mean base-simple?" in capsys.readouterr().err
    short = keypoints_json(tmp_path / "short.json", make_person, frames=6)
    assert main(["forecast", str(short), "--weights", str(forecaster), *out]) == 2
    assert "10 frames in a row" in capsys.readouterr().err
    assert main(["forecast", str(short), "--weights", str(tmp_path / "no"), *out]) == 2
    assert "no such file" in capsys.readouterr().err


def test_frames_of_unequal_length_are_resampled(
    tmp_path: Path,
    forecaster: Path,
    make_person: Callable[..., Person],
    capsys: pytest.CaptureFixture,
) -> None:
    """25, then 10 frames a second; the forecaster, at 30, expects people to stand still."""
    times = np.cumsum([0.0, *[0.04] * 24, *[0.1] * 24])
    people = [make_person(90 * time, 5, track=1) for time in times]
    rows = zip(people, times.tolist(), strict=True)
    source, out = tmp_path / "keypoints.json", tmp_path / "out"
    write_results(source, [coco_result(p, "v.mp4", None, i, t) for i, (p, t) in enumerate(rows)])
    command = ["forecast", str(source), "--weights", str(forecaster), "--out", str(out)]
    assert main(command) == 0
    assert "frames of unequal length, resampled to the forecaster's 30" in capsys.readouterr().out
    found = json.loads((out / "forecast.json").read_text())
    assert {entry["frame"] for entry in found} >= {10, 20, 40}
    for entry in found:
        last_seen = times[entry["frame"]] + entry["after_seconds"][0] - 1 / 30
        assert times[entry["frame"]] - 1 / 30 < last_seen <= times[entry["frame"]] + 1e-3
        left = np.array(entry["keypoints"])[0] - make_person(0, 5).keypoints
        np.testing.assert_allclose(left[:, 0], 90 * last_seen, atol=0.1)


@pytest.mark.parametrize("times", [[0, "x"], [1, 0.5], [0, 0], [0, 1e999]])
def test_times_that_cannot_be(
    tmp_path: Path, forecaster: Path, capsys: pytest.CaptureFixture, times: list
) -> None:
    entries = [{"frame": i, "time": t, "keypoints": [1.0] * 51} for i, t in enumerate(times)]
    (tmp_path / "k.json").write_text(json.dumps(entries))
    out = str(tmp_path / "out")
    command = ["forecast", str(tmp_path / "k.json"), "--weights", str(forecaster), "--out", out]
    assert main(command) == 2
    assert "`time` must be seconds that increase" in capsys.readouterr().err


def test_a_video_that_ends_early(
    tmp_path: Path,
    forecaster: Path,
    weights: Path,
    shared: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    models = ["--weights", str(forecaster), "--pose-weights", str(weights), "--num-heads", "3"]
    rest = ["--detector", "none", "--min-score", "0", "--out", str(tmp_path)]
    assert main(["forecast", str(shared / "field-cases/cut.mp4"), *models, *rest]) == 1
    assert capsys.readouterr().err.count("of 60 frames") == 1
    assert json.loads((tmp_path / "forecast.json").read_text())
    assert (tmp_path / "cut.forecast.mp4").exists()


def test_a_coordinate_beyond_floats_is_missing(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "k.json").write_text(entry(keypoints=[1e308, 5.0, 0.9] + [2.0] * 48))
    frames, _ = read_keypoints(tmp_path / "k.json", SKELETONS["coco"], 30, 30)
    np.testing.assert_array_equal(frames[0][0].keypoints[:2], [[0, 0], [2, 2]])
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
