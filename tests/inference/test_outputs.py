"""Every input has a path of its own, and no input is written to."""

from pathlib import Path

import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import write_text
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.outputs import picture_paths, refuse_overwriting, video_paths


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
    paths = picture_paths(tmp_path, sources(*names))
    assert [str(paths[name].relative_to(tmp_path)) for name in names] == expected


def test_folders_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    assert picture_paths(tmp_path, sources("x.jpg")) == {"x.jpg": tmp_path / "x-2.jpg"}


def test_names_too_long_for_a_suffix(tmp_path: Path) -> None:
    names = [f"{'ä' * 120}{end}.bmp" for end in "12"]
    first, second = (path.name for path in picture_paths(tmp_path, sources(*names)).values())
    assert first != second
    for name in (first, second):
        assert name.startswith("ä" * 40)
        write_text(tmp_path / name, "")
    write_text(tmp_path / ("x" * 250), "")


def test_videos(tmp_path: Path) -> None:
    videos = [Source("video", "v.mp4", "v.mp4"), Source("camera", "0", "camera0")]
    assert video_paths(tmp_path, [*videos, *sources("a.jpg")]) == {
        "v.mp4": tmp_path / "v.mp4.poses.mp4",
        "camera0": tmp_path / "camera0.poses.mp4",
    }


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
