"""JSON that others wrote, on any file system, and one line where it is not JSON."""

import math
from pathlib import Path

import pytest
from etils import epath

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import number, read_json, read_object


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_both_kinds_of_utf8_and_of_paths(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "Zoë", "score": NaN}', encoding=encoding)
    for place in (path, str(path), epath.Path(path)):
        content = read_object(place)
        assert content["name"] == "Zoë"
        assert math.isnan(content["score"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n", "is empty"),
        (b"{oops", "is not JSON"),
        (b"\xff\xfe\x00\x81", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 5000, "is not JSON"),
        (b"[]", "must hold a JSON object, not list"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json: {message}") as caught:
        read_object(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"cannot be read .Is a directory"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3.0), (2.5, 2.5), (10**400, math.inf), (-(10**400), -math.inf), (True, None), ("1", None)],
)
def test_numbers(value: object, expected: float | None) -> None:
    assert number(value) == expected
