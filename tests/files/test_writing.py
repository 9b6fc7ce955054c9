"""Files are written whole or not at all."""

import json
from pathlib import Path

import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.files.cache import cache_folder
from vitpose_jax.files.writing import make_folder, replacing, write_json, write_text


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "a") / "b.txt"
    write_text(path, "ä old")
    with replacing(path) as draft:
        draft.write_text("new")
        assert path.read_text("utf-8") == "ä old"
    assert path.read_text() == "new"
    write_json(path, {"x": 1}, indent=1)
    assert json.loads(path.read_text()) == {"x": 1}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ZeroDivisionError("bug"), ZeroDivisionError), (OSError(28, "No space left"), UserError)],
)
def test_the_old_file_stays_when_something_goes_wrong(
    tmp_path: Path, error: Exception, raised: type[Exception]
) -> None:
    path = tmp_path / "b.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(raised, match=r"bug|b\.txt: cannot be written .No space left"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder: cannot be written .Is a directory"):
        write_text(tmp_path / "folder", "x")
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"{place}: the folder cannot be made"):
            make_folder(place)


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder("compiled") == Path("/somewhere/vitpose_jax/compiled")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("compiled") == Path.home() / ".cache/vitpose_jax/compiled"
