"""The journal: what is on disk can be gone on from, whatever was cut off."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitpose_jax.errors import UserError
from vitpose_jax.inference.journal import Journal, as_bytes, read_journal
from vitpose_jax.inference.pipeline import Report

HEADER = {"settings": {"--nms": False}, "inputs": {"number": 5, "digest": "d"}, "skeleton": "coco"}
PICTURES = [
    as_bytes({"image": "a.jpg", "size": [4, 3], "restart": True}, ['{"score": 1}', '{"score": 2}']),
    as_bytes({"image": "b.jpg", "error": "b.jpg: is empty", "restart": True}),
    as_bytes({"image": "c.jpg", "size": [4, 3], "problems": ["a box"]}, ['{"score": 3}']),
    as_bytes({"problems": ["c.jpg: cannot be drawn"]}),
    as_bytes({"image": "d.jpg", "size": [4, 3], "restart": True}),
    as_bytes({"video": "v.mp4", "frame": 0, "time": 0.0, "size": [4, 3]}, ['{"score": 4}']),
    as_bytes({"end": "v.mp4", "restart": True, "problems": ["v.mp4: ends early"]}),
]
DONE = [0, 1, 2, 2, 2, 4, 4, 5]
"""Inputs that are done, and can be gone on from, after so many entries."""


def written(path: Path, entries: list[bytes]) -> None:
    path.unlink(missing_ok=True)
    with Journal(path, HEADER) as journal:
        journal.write(b"".join(entries), journal.end)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path, PICTURES)
    header, entries = read_journal(path)
    assert header == {"journal": 1, **HEADER}
    found = list(entries)
    assert [row for entry in found for row in entry.rows] == [
        b'{"score": %d}' % n for n in (1, 2, 3, 4)
    ]
    assert found[-1].after == path.stat().st_size


@pytest.mark.parametrize("count", range(len(PICTURES) + 1))
def test_going_on_after_the_last_restart(tmp_path: Path, count: int) -> None:
    path = tmp_path / "j"
    written(path, PICTURES[:count])
    with Journal(path, HEADER, resume=True) as journal:
        assert journal.done == DONE[count]
        kept = list(read_journal(path)[1])
        assert not kept or kept[-1].head.get("restart")
        assert path.stat().st_size == journal.end
    whole = Report(4, 4, 1, ("b.jpg: is empty", "a box", "c.jpg: cannot be drawn"))
    if count == len(PICTURES):
        assert journal.report == whole + Report(problems=("v.mp4: ends early",))


@given(cut=st.integers(0), flip=st.integers(0), mask=st.integers(0, 255))
def test_torn_and_damaged_journals(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, mask: int
) -> None:
    """Every byte may be the last one, and every bit behind the header may be wrong."""
    path = tmp_path_factory.mktemp("j") / "j"
    written(path, PICTURES)
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    torn = bytearray(whole[: start + cut % (len(whole) - start + 1)])
    if len(torn) > start:
        torn[start + flip % (len(torn) - start)] ^= mask
    path.write_bytes(torn)
    with Journal(path, HEADER, resume=True) as journal:
        assert journal.done in DONE
    sound = path.read_bytes()
    if not mask:
        assert whole.startswith(sound)
        sizes = [start + len(b"".join(PICTURES[:n])) for n in range(len(PICTURES) + 1)]
        assert journal.done == DONE[max(n for n, size in enumerate(sizes) if size <= len(torn))]
    with Journal(path, HEADER, resume=True) as again:
        assert (again.done, again.report) == (journal.done, journal.report)
    assert path.read_bytes() == sound


def test_a_camera_is_not_watched_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    frame = as_bytes({"camera": "camera0", "frame": 0, "time": 0.0, "size": [4, 3]}, ["{}"])
    written(path, [PICTURES[0], frame, frame[:9]])
    with Journal(path, HEADER, resume=True) as journal:
        assert (journal.done, journal.report.frames) == (2, 2)
    kinds = [next(iter(entry.head)) for entry in read_journal(path)[1]]
    assert kinds == ["image", "camera", "end"]


def test_another_run_is_refused_by_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path, PICTURES)
    before = path.read_bytes()
    other = {**HEADER, "settings": {"--nms": True}, "inputs": {"number": 6, "digest": "d"}}
    with pytest.raises(UserError, match=r"number of the inputs \(5, now 6\), --nms \(false, now t"):
        Journal(path, other, resume=True)
    assert path.read_bytes() == before
    path.write_text("{}\n")
    with pytest.raises(UserError, match="is not a journal that this version can read"):
        Journal(path, HEADER, resume=True)


@pytest.mark.parametrize("content", [b"", b'{"journal": 1, "sett'])
def test_a_header_that_was_never_finished_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with Journal(path, HEADER, resume=True) as journal:
        assert journal.done == 0
    assert read_journal(path)[0]["journal"] == 1


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with (
        Journal(path, HEADER),
        pytest.raises(UserError, match="another process is writing to it"),
    ):
        Journal(path, HEADER, resume=True)
    Journal(path, HEADER, resume=True).close()
