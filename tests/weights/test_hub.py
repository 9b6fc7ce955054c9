"""Published models by name: downloaded once, checked, and missed in words that help."""

import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hub_fixtures import REVISION, FakeHub

from vitpose_jax.errors import UserError
from vitpose_jax.inference.detector import PersonDetector
from vitpose_jax.weights import hub as downloads
from vitpose_jax.weights import load_pose_model, zoo
from vitpose_jax.weights.hub import fetch, missing_files, snapshot_folder
from vitpose_jax.weights.sources import resolve_source

SECONDS = 15
"""Far below the half minute that huggingface_hub tries for, far above what a busy machine takes."""


@pytest.fixture
def model(hub: FakeHub) -> zoo.Published:
    """A published model that the fake hub has."""
    digest = hub.add("usyd-community/tiny", "model.safetensors", bytes(range(256)) * 5000)
    hub.add("usyd-community/tiny", "config.json", b"{}")
    known = zoo.POSE_MODELS["base-simple"]
    return replace(known, repository="usyd-community/tiny", revision=REVISION, sha256=digest)


def fails(model: zoo.Published, match: str) -> str:
    start = time.monotonic()
    with pytest.raises(UserError, match=match) as caught:
        fetch(model)
    assert time.monotonic() - start < SECONDS
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_downloads_once(model: zoo.Published, hub: FakeHub) -> None:
    assert missing_files(model) == ["model.safetensors", "config.json"]
    folder = fetch(model)
    assert (folder / "model.safetensors").read_bytes() == bytes(range(256)) * 5000
    assert sorted(hub.downloads()) == ["config.json", "model.safetensors"]
    hub.requests.clear()
    assert fetch(model) == folder == snapshot_folder(model)
    assert hub.requests == []


def test_a_cut_line_is_taken_up_where_it_was_cut(
    model: zoo.Published, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.break_after = 300_000
    assert (fetch(model) / "model.safetensors").stat().st_size == 1_280_000
    ranges = [asked for method, path, asked in hub.requests if method == "GET" and asked]
    assert len(ranges) == 1
    assert 0 < int(ranges[0].removeprefix("bytes=").rstrip("-")) <= 300_000


def test_other_contents_than_expected_are_not_even_downloaded(
    model: zoo.Published, hub: FakeHub
) -> None:
    hub.add("usyd-community/tiny", "model.safetensors", b"changed")
    fails(model, "the hub offers model.safetensors with SHA-256 .* it was not downloaded")
    assert hub.downloads() == []


def test_a_wrong_digest_is_refused_and_removed(model: zoo.Published, hub: FakeHub) -> None:
    """Whatever the server says it sends."""
    hub.add("usyd-community/tiny", "model.safetensors", b"changed" * 999)
    hub.lie_about_sha256 = model.sha256
    fails(model, "is removed again: its SHA-256 is .*, not")
    assert missing_files(model)[0] == "model.safetensors"
    hub.add("usyd-community/tiny", "model.safetensors", bytes(range(256)) * 5000)
    assert fetch(model).exists()


def test_a_file_changed_later_is_noticed(model: zoo.Published) -> None:
    file = fetch(model) / "model.safetensors"
    file.resolve().write_bytes(b"damaged")
    fails(model, "damaged or was changed")


def test_a_digest_that_is_not_known(model: zoo.Published) -> None:
    assert fetch(replace(model, sha256=None)).exists()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("way", ["refused", "no such host", "silent", "HF_HUB_OFFLINE"])
def test_without_a_network_says_what_to_bring_and_where(
    way: str, use_hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    model = zoo.POSE_MODELS["base-simple"]
    with socket.socket() as silent:  # accepts connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1] if way == "silent" else closed_port()
        host = "hub.invalid" if way == "no such host" else "127.0.0.1"
        use_hub(f"http://{host}:{port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", way == "HF_HUB_OFFLINE")
        monkeypatch.setattr(downloads, "PATIENCE", 1.0)
        message = fails(model, "must be downloaded once, but that failed")
    for told in ("model.safetensors and config.json", "344 MB", model.repository, model.revision):
        assert told in message
    folder = Path(message.rpartition(" to ")[2])
    assert folder == snapshot_folder(model)

    folder.mkdir(parents=True)  # by hand, as it says
    for name in model.files:
        (folder / name).write_bytes(b"brought")
    assert missing_files(model) == []
    assert fetch(replace(model, sha256=None)) == folder


def test_names_and_hub_ids_of_published_models(hub: FakeHub, golden: Path, monkeypatch) -> None:
    """All lead to the pinned revision, and to a model that works."""
    tiny = golden / "hf_vitpose_tiny_simple"
    known = zoo.POSE_MODELS["base-simple"]
    for name in known.files:
        content = (tiny / name).read_bytes()
        digest = hub.add(known.repository, name, content, known.revision)
        if name == known.files[0]:
            monkeypatch.setitem(zoo.POSE_MODELS, known.name, replace(known, sha256=digest))
    for name in ("base-simple", "vitpose-base-simple", "vitpose-b-simple", known.repository):
        assert resolve_source(name).name == known.revision
    assert load_pose_model("base-simple").config.num_keypoints == 17
    assert len(hub.downloads()) == 2


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("base", "base"),
        ("vitpose-b", "base"),
        ("small", "plus-small"),
        ("S", "plus-small"),
        ("ViTPose+_large", "plus-large"),
        ("vitpose+-h", "plus-huge"),
        ("huge", "plus-huge"),
        ("plus-base", "plus-base"),
        ("usyd-community/vitpose-plus-small", "plus-small"),
        ("vitpose", None),
        ("tiny", None),
        ("", None),
        ("someone/vitpose-base", None),
        ("vitpose-b.pth", None),
    ],
)
def test_what_names_mean(text: str, name: str | None) -> None:
    found = zoo.published_pose_model(text)
    assert (found and found.name) == name


def test_what_exists_here_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_source("base") == Path("base")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("vitpose-b.pth", "did you mean base?"),
        ("base-simpel", "did you mean base-simple?"),
        ("plus-hige", "did you mean plus-huge?"),
        ("./mine/wieghts.pth", "did you mean mine/weights.pth?"),
        ("nonsense", "`vitpose models` lists them"),
    ],
)
def test_misspelt_names(text: str, hint: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/weights.pth").touch()
    with pytest.raises(UserError) as caught:
        resolve_source(text)
    assert hint in str(caught.value)


def test_a_detector_by_name(
    hub: FakeHub, tmp_path: Path, bright_rectangle_detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    file = bright_rectangle_detector(tmp_path / "d.onnx")
    known = zoo.DETECTORS["dfine-s"]
    digest = hub.add(known.repository, known.files[0], file.read_bytes(), known.revision)
    monkeypatch.setitem(zoo.DETECTORS, "dfine-s", replace(known, sha256=digest))
    PersonDetector()
    shutil.rmtree(snapshot_folder(known))
    hub.files.clear()
    with pytest.raises(UserError, match=r"dfine-s: onnx/model.onnx .*--boxes FILE"):
        PersonDetector()


def test_other_models_on_the_hub(hub: FakeHub, golden: Path) -> None:
    tiny = golden / "hf_vitpose_tiny_simple"
    for name in ("model.safetensors", "config.json"):
        hub.add("someone/else", name, (tiny / name).read_bytes())
    assert load_pose_model("someone/else").config.num_keypoints == 17
    with pytest.raises(UserError, match="no public model of this name"):
        resolve_source("someone/nobody")


def test_other_models_without_a_network(use_hub) -> None:
    use_hub(f"http://127.0.0.1:{closed_port()}")
    start = time.monotonic()
    with pytest.raises(UserError, match=r"could not be downloaded.*(refused|connect)"):
        resolve_source("someone/else")
    assert time.monotonic() - start < SECONDS


def test_the_table_is_sound() -> None:
    for model in (*zoo.POSE_MODELS.values(), *zoo.DETECTORS.values()):
        assert len(model.revision) == 40
        assert model.sha256 is None or len(model.sha256) == 64
        assert model.source.startswith("https://")
    assert zoo.DEFAULT_POSE_MODEL in zoo.POSE_MODELS
    assert zoo.DEFAULT_DETECTOR in zoo.DETECTORS
    assert not zoo.POSE_MODELS.keys() & zoo.DETECTORS.keys()
