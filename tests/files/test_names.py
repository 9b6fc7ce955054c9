"""Names compared and found."""

from pathlib import Path

import pytest

from vitpose_jax.errors import printable
from vitpose_jax.files.names import nearest, nearest_file, spelling


def test_spellings_of_one_name() -> None:
    names = ["./Bilder\\A%CC%8A b.JPG", "bilder/a\u030a b.jpg", "BILDER/\u00c5 B.jpg"]
    assert len({spelling(name) for name in names}) == 1


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Photos\\IMG_1.jpg", "photos/img_1.JPG"),
        ("photos/img_1.jpeg", "photos/img_1.JPG"),
        ("photos/img%5F1.jpg", "photos/img_1.JPG"),
        ("photo", "photos"),
        ("nowhere/img_1.JPG", None),
        ("photos/quite_different.png", None),
        ("", None),
        ("photos/\0", None),
    ],
)
def test_the_nearest_file(tmp_path: Path, asked: str, found: str | None) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/img_1.JPG").touch()
    close = nearest_file(f"{tmp_path}/{asked}") if asked else nearest_file(asked)
    assert close == (None if found is None else tmp_path / found)


def test_the_nearest_name() -> None:
    assert nearest("a/001.jpg", ["b/0001.jpg", "x.png"]) == "b/0001.jpg"
    assert nearest("a/001.jpg", ["whole.png", "002.jpg"]) is None


def test_text_that_is_safe_to_show() -> None:
    assert printable("a\x1b[31m\nb\x9b\u202ec\udce9.jpg") == r"a\x1b[31m\x0ab\x9b\u202ec\xe9.jpg"
    assert printable("Ångström 日本 b.jpg") == "Ångström 日本 b.jpg"
