"""Every input has a path of its own, and no input is written to."""

from pathlib import Path

import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import write_text
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.outputs import drawing_paths, refuse_overwriting, results_folder


def sources(*names: str) -> list[Source]:
    return [Source("image", name, name) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.PNG", "c.bmp"], ["a.jpg", "b.PNG", "c.bmp.jpg"]),
        (["a.bmp", "a.bmp.jpg"], ["a.bmp-2.jpg", "a.bmp.jpg"]),
        (["a.bmp.jpg", "a.bmp", "a.bmp-2.jpg"], ["a.bmp.jpg", "a.bmp-3.jpg", "a.bmp-2.jpg"]),
        (["A.JPG", "a.jpg"], ["A.JPG", "a-2.jpg"]),
        (["x.jpg", "x.jpg/y.jpg"], ["x-2.jpg", "x.jpg/y.jpg"]),
        (["x", "x.jpg/y.jpg"], ["x-2.jpg", "x.jpg/y.jpg"]),
        (["../x.jpg", "/x/y.jpg"], ["x.jpg", "x/y.jpg"]),
    ],
)
def test_pictures(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    paths = drawing_paths(tmp_path, sources(*names))
    assert [str(paths[name].relative_to(tmp_path)) for name in names] == expected


def test_folders_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    assert drawing_paths(tmp_path, sources("x.jpg")) == {"x.jpg": tmp_path / "x-2.jpg"}


def test_names_too_long_for_a_suffix(tmp_path: Path) -> None:
    names = [f"{'ä' * 120}{end}.bmp" for end in "12"]
    first, second = (path.name for path in drawing_paths(tmp_path, sources(*names)).values())
    assert first != second
    for name in (first, second):
        assert name.startswith("ä" * 40)
        write_text(tmp_path / name, "")
    write_text(tmp_path / ("x" * 250), "")


def test_videos_beside_pictures(tmp_path: Path) -> None:
    names = {"v.mp4": "v.mp4", "w.MP4": "w.MP4", "v.mov": "v.mov.mp4", "clip": "clip.mp4"}
    videos = [Source("video", name, name) for name in names]
    camera = Source("camera", "0", "camera0")
    assert drawing_paths(tmp_path, [*videos, camera, *sources("a.jpg", "clip.png")]) == {
        name: tmp_path / drawn for name, drawn in (names | {"camera0": "camera0.mp4"}).items()
    } | {"a.jpg": tmp_path / "a.jpg", "clip.png": tmp_path / "clip.png"}


def test_the_default_folder_is_a_free_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert results_folder("mine", "results") == Path("mine")
    for taken in ("results", "results-2"):
        assert results_folder(None, "results") == Path(taken)
        Path(taken).mkdir()
    assert results_folder(None, "results") == Path("results-3")
    assert results_folder(None, "results", resume=True) == Path("results-2")
    assert results_folder(None, "results", overwrite=True) == Path("results-2")
    assert results_folder(None, "other", resume=True) == Path("other")


def test_inputs_are_no_outputs_through_links_either(tmp_path: Path) -> None:
    photo = tmp_path / "photos/a.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"x")
    (tmp_path / "folder").symlink_to(photo.parent)
    (tmp_path / "link.jpg").symlink_to(photo)
    (tmp_path / "hard.jpg").hardlink_to(photo)
    for path in ("photos/../photos/a.jpg", "folder/a.jpg", "link.jpg", "hard.jpg"):
        with pytest.raises(UserError, match=r"is the input .*photos/a\.jpg; choose another --out"):
            refuse_overwriting([tmp_path / path], [photo])
    refuse_overwriting([tmp_path / "photos/b.jpg"], [photo, tmp_path / "no", "some/hub-id"])
