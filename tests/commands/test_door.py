"""What a newcomer types first: no options, names, mistakes."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hub_fixtures import FakeHub
from PIL import Image

from vitpose_jax.cli import main
from vitpose_jax.files.videos import VideoReader, VideoWriter
from vitpose_jax.inference import show
from vitpose_jax.weights import zoo


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture of something bright, where the commands run."""
    folder = tmp_path / "here"
    folder.mkdir()
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[40:200, 100:180] = 250
    Image.fromarray(pixels).save(folder / "people.png")
    monkeypatch.chdir(folder)
    return folder


def told(capsys: pytest.CaptureFixture, status: int, *words: str) -> str:
    """Everything that a command prints; it ends with this status."""
    capsys.readouterr()
    assert main(list(words)) == status
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_the_first_command(here: Path, default_models: Path, capsys) -> None:
    """Weights, detector, drawing, and a folder that is free, twice."""
    for folder in ("predictions", "predictions-2"):
        text = told(capsys, 0, "predict", "people.png")
        assert "1 person in 1 image (" in text
        assert f"{folder}/keypoints.json" in text
        assert f"picture {folder}/drawn/people.png" in text
        assert "downloading" not in text
        (person,) = json.loads((here / folder / "keypoints.json").read_text())
        np.testing.assert_allclose(person["bbox"], [100, 40, 80, 160], atol=8)
        drawn = np.asarray(Image.open(here / folder / "drawn/people.png"))
        assert (drawn != np.asarray(Image.open("people.png"))).any()


def test_downloads_are_announced_with_their_size(
    here: Path, hub: FakeHub, default_models: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    known = zoo.DETECTORS["dfine-s"]
    cached = next(default_models.rglob("model.onnx"))
    digest = hub.add(known.repository, known.files[0], cached.read_bytes(), known.revision)
    monkeypatch.setitem(zoo.DETECTORS, "dfine-s", replace(known, sha256=digest))
    cached.unlink()
    text = told(capsys, 0, "predict", "people.png")
    assert "downloading dfine-s (D-FINE-S, 42 MB) from the Hugging Face hub, once" in text
    assert "downloading" not in told(capsys, 0, "predict", "people.png")


def test_all_that_is_missing_is_told_at_once(here: Path, hub: FakeHub, capsys) -> None:
    """The hub is there, and has nothing."""
    start = time.monotonic()
    text = told(capsys, 2, "predict", "people.png")
    assert time.monotonic() - start < 15
    for model in (zoo.POSE_MODELS["base-simple"], zoo.DETECTORS["dfine-s"]):
        assert f"hf download {model.repository}" in text
    assert not (here / "predictions").exists()


def test_names_are_drawn_and_pictures_not(here: Path, default_models: Path, capsys) -> None:
    told(capsys, 0, "predict", "people.png", "--no-draw")
    assert not (here / "predictions/drawn").exists()
    for extra in ([], ["--names"]):
        told(capsys, 0, "predict", "people.png", "--min-score=-1", *extra)
    plain, named = (Image.open(here / f"predictions-{i}/drawn/people.png") for i in (2, 3))
    assert (np.asarray(plain) != np.asarray(named)).any()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["predict", "nobody.png"], "nobody.png: no such file"),
        (["predict", "poeple.png"], "is it people.png?"),
        (["predict", "*.webp"], "no file matches this pattern"),
        (["predict", "people.png", "--weights", "base-simpel"], "did you mean base-simple?"),
        (["predict", "people.png", "--weights", "vitpose-b.pth"], "did you mean base?"),
        (["predict", "people.png", "--detector", "dfine"], "choose one of dfine-n, dfine-s"),
        (["predict", "https://host/p.jpg"], "download it first"),
        (["pridect", "people.png"], "did you mean 'predict'?"),
    ],
)
def test_mistakes(words: list[str], expected: str, here: Path, default_models, capsys) -> None:
    text = told(capsys, 2, *words)
    assert expected in text
    assert text.count("\n") == 1


def test_models(here: Path, default_models: Path, capsys) -> None:
    """The table has every model, and says which is here."""
    lines = told(capsys, 0, "models").splitlines()
    rows = {line.split()[0]: line for line in lines if line.startswith("  ")}
    for model in (*zoo.POSE_MODELS.values(), *zoo.DETECTORS.values()):
        is_here = model.name in (zoo.DEFAULT_POSE_MODEL, zoo.DEFAULT_DETECTOR)
        row = rows[model.name]
        for cell in (model.network, model.trained_on, f"{model.ap}", str(model.megabytes)):
            assert cell in row
        assert row.endswith("yes" if is_here else "no")
    assert "https://github.com/ViTAE-Transformer/ViTPose" in "\n".join(lines)
    entries = json.loads(told(capsys, 0, "models", "--json"))
    assert {entry["name"]: entry["in_cache"] for entry in entries}["plus-huge"] is False
    (default,) = (e for e in entries if e["default"] and e["kind"] == "pose")
    assert (Path(default["folder"]) / default["files"][0]).exists()


class Screen:
    """Stands in for a window; is closed after so many frames."""

    def __init__(self, closed_after: int = 99) -> None:
        self.closed_after = closed_after
        self.frames: list[np.ndarray] = []

    @property
    def is_open(self) -> bool:
        return len(self.frames) < self.closed_after

    def show(self, image: np.ndarray, title: str) -> None:
        self.frames.append(image)

    def close(self) -> None:
        self.closed_after = 0


@pytest.fixture
def clip(here: Path) -> str:
    with VideoWriter(here / "clip.mp4", 10) as writer:
        for _ in range(6):
            writer.write(np.asarray(Image.open("people.png")))
    return "clip.mp4"


@pytest.mark.parametrize("closed_after", [99, 2])
def test_videos_are_shown_while_they_are_drawn(
    clip: str, here: Path, default_models: Path, monkeypatch, capsys, closed_after: int
) -> None:
    """A closed window ends nothing but the show."""
    screen = Screen(closed_after)
    monkeypatch.setattr(show, "Window", lambda: screen)
    told(capsys, 0, "predict", clip, "--show")
    assert len(screen.frames) == min(6, closed_after)
    assert not screen.is_open
    with VideoReader(here / "predictions/drawn/clip.mp4") as reader:
        assert len(list(reader)) == 6


def test_a_closed_window_ends_a_camera(
    clip: str, here: Path, default_models: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(show, "Window", lambda: Screen(closed_after=2))
    monkeypatch.setattr(
        "vitpose_jax.inference.pipeline._open_video", lambda source: VideoReader(Path(clip))
    )
    text = told(capsys, 0, "predict", "0", "--show", "--detector", "none")
    assert "2 people in 2 images" in text
    assert (here / "predictions/drawn/camera0.mp4").exists()


def test_pictures_open_no_window(here: Path, default_models: Path, capsys) -> None:
    assert "--show has no effect on pictures" in told(capsys, 0, "predict", "people.png", "--show")


def test_without_a_display(here: Path, clip: str, default_models, monkeypatch, capsys) -> None:
    for name in show.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert "there is no display here" in told(capsys, 2, "predict", clip, "--show")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("matplotlib.pyplot.get_backend", lambda: "agg")
    assert 'pip install "vitpose-jax[show]"' in told(capsys, 2, "predict", clip, "--show")
    assert not (here / "predictions").exists()


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_a_window_of_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a canvas that needs no screen: the window's own code."""
    import matplotlib

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("matplotlib.pyplot.get_backend", lambda: "screen")
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    window = show.Window()
    for shape in ((60, 80, 3), (60, 80, 3), (40, 40, 3)):
        window.show(np.full(shape, 200, np.uint8), "a title")
        assert window._picture.get_array().shape == shape
    assert window.is_open
    window.close()
    assert not window.is_open
    matplotlib.use(before)
