"""What the command's arguments stand for."""

from pathlib import Path

import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference import inputs
from vitpose_jax.inference.inputs import expand_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", "clip.mp4", "deep/c.jpg", "other/b.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(given: list) -> list[tuple[str, str]]:
    return [(source.kind, source.name) for source in expand_inputs([str(i) for i in given])]


def test_a_folder_gives_its_pictures_and_videos(folder: Path) -> None:
    expected = [("image", "a.PNG"), ("image", "b.jpg"), ("video", "clip.mp4")]
    assert names([folder]) == expected


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
TIFF = b"II*\0\x08\0\0\0"


def test_formats_that_are_left_out_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.HEIC", "y.heic", "z.cr3", "z.svg", ".hidden.svg", "notes.csv"):
        (folder / name).touch()
    monkeypatch.setattr(inputs, "reads_heic", lambda: False)
    found = expand_inputs([str(folder)])
    assert [source.name for source in found] == ["a.PNG", "b.jpg", "clip.mp4"]
    (told,) = found.problems
    assert told.startswith(f"{folder}: ")
    assert "2 .heic, 1 .cr3, 1 .svg" in told or "1 .cr3, 2 .heic, 1 .svg" in told
    assert 'pip install "vitpose-jax[heic]"' in told
    monkeypatch.setattr(inputs, "reads_heic", lambda: True)
    assert "x.HEIC" in [source.name for source in expand_inputs([str(folder)])]


@pytest.mark.parametrize(
    ("name", "begins", "kind"),
    [
        ("really.mp4", b"\xff\xd8\xff\xe0", "image"),
        ("really.jpg", b"\0\0\0 ftypisom", "video"),
        ("really.png", b"\x1aE\xdf\xa3", "video"),
        ("without", b"\x89PNG\r\n\x1a\n", "image"),
        ("IMG_1.MOV", b"\0\0\0 ftypheic", "image"),
        ("photo.psd", b"GIF89a", "image"),
        ("photo.dng", TIFF, None),
        ("labels.txt", b"BMW 3 0.5 0.5", None),
        ("page.svg", SVG, None),
        ("song.m4a", b"\0\0\0 ftypM4A ", None),
        *((f"v{suffix}", b"", "video") for suffix in (".3gp", ".MTS", ".m2ts", ".ogv", ".vob")),
        *((f"p{suffix}", b"", "image") for suffix in (".jp2", ".mpo", ".JPE", ".apng")),
    ],
)
def test_content_decides_and_then_the_suffix(
    tmp_path: Path, name: str, begins: bytes, kind: str | None
) -> None:
    (tmp_path / name).write_bytes(begins)
    (tmp_path / "a.jpg").touch()
    found = {source.name: source.kind for source in expand_inputs([str(tmp_path)])}
    assert found.get(name) == kind


def test_globs(folder: Path) -> None:
    assert names([folder / "*.jpg"]) == [("image", "b.jpg")]
    deep = [("image", "b.jpg"), ("image", "deep/c.jpg"), ("image", "other/b.jpg")]
    assert names([folder / "**/*.jpg"]) == deep


def test_a_file_given_twice_counts_once(folder: Path) -> None:
    assert names([folder / "b.jpg", folder / "deep/../b.jpg"]) == [("image", "b.jpg")]


def test_links_count_as_files_of_their_own(folder: Path) -> None:
    for name in ("c.jpg", "d.jpg"):
        (folder / name).symlink_to("b.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")  # told when it cannot be read
    expected = ["a.PNG", "b.jpg", "c.jpg", "clip.mp4", "d.jpg", "gone.jpg"]
    assert [n for _, n in names([folder])] == expected
    with pytest.raises(
        UserError, match=r"gone\.jpg: is a link to nowhere\.jpg, which does not exist"
    ):
        names([folder / "gone.jpg"])


def test_links_in_a_circle_end(folder: Path) -> None:
    for name in ("up", "up2"):
        (folder / "deep" / name).symlink_to("..")
    (folder / "again").symlink_to("other")
    expected = ["again/b.jpg", "b.jpg", "deep/c.jpg"]
    assert [n for _, n in names([folder / "**/*.jpg"])] == expected
    assert [n for _, n in names([folder / "**/deep/**/*.jpg"])] == [
        "c.jpg",
        "up/again/b.jpg",
        "up/b.jpg",
    ]


@pytest.mark.parametrize("asked", ["B.JPG", "b.jpeg", "deep\\c.jpg", "Deep/C.jpg", "./b%2Ejpg"])
def test_the_nearest_file_is_named(folder: Path, asked: str) -> None:
    there = folder / ("deep/c.jpg" if "eep" in asked else "b.jpg")
    with pytest.raises(UserError, match=f"no such file, folder or camera; is it {there}"):
        names([f"{folder}/{asked}"])


def test_equal_names_are_told_apart(folder: Path) -> None:
    assert [n for _, n in names([folder / "b.jpg", folder / "other/b.jpg"])] == [
        "b.jpg",
        "other/b.jpg",
    ]


def test_names_stay_apart_that_others_would_get(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that tells one file apart may be another's name; ".." would be lost on the way."""
    (folder / "deep/other").mkdir()
    (folder / "deep/other/b.jpg").touch()
    given = [folder / "b.jpg", folder / "other/b.jpg", folder / "deep/**/*.jpg"]
    assert [n for _, n in names(given)] == ["b.jpg", "other/b.jpg", "c.jpg", "deep/other/b.jpg"]
    monkeypatch.chdir(folder / "deep")
    assert [n for _, n in names(["../other/b.jpg", "other/b.jpg"])] == [
        "other/b.jpg",
        "deep/other/b.jpg",
    ]


def test_hidden_files_and_folders_with_a_pictures_name_are_not_taken(folder: Path) -> None:
    (folder / "._b.jpg").touch()
    (folder / "album.jpg").mkdir()
    assert [n for _, n in names([folder])] == ["a.PNG", "b.jpg", "clip.mp4"]


def test_a_file_of_any_suffix_is_tried_as_a_picture(folder: Path) -> None:
    assert names([folder / "notes.txt"]) == [("image", "notes.txt")]


def test_cameras(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(["0", "rtsp://door"]) == [("camera", "camera0"), ("camera", "stream")]
    monkeypatch.chdir(folder)
    (folder / "1").touch()
    assert names(["1"]) == [("image", "1")]


@pytest.mark.parametrize("what", ["nowhere.jpg", "*.webp", "deep", "a" * 5000, "a\0b"])
def test_nothing_there(folder: Path, what: str) -> None:
    (folder / "deep/c.jpg").unlink()
    with pytest.raises(UserError, match="no "):
        names([folder / what])


def test_image_ids_are_the_number_in_the_name(folder: Path) -> None:
    for name, expected in (("000000000139.jpg", 139), ("x7.jpg", None)):
        (folder / name).touch()
        assert expand_inputs([str(folder / name)])[0].image_id == expected
