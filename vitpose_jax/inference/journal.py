"""The journal of a run: what was found, written down as it is found.

A run writes `keypoints.journal` into its folder. All other files of results are made from it at the
end, and `--resume` goes on from it. It is JSON Lines in UTF-8, and no line is ever changed:

    {"journal": 1, "settings": {...}, "inputs": {...}, "skeleton": ..., "model": {...}, ...}
    {"image": "a.jpg", "size": [640, 480], "people": 2, "crc": 1838273, "restart": true}
    {"file_name": "a.jpg", "bbox": [...], "keypoints": [...], ...}
    {"file_name": "a.jpg", "bbox": [...], "keypoints": [...], ...}
    {"image": "b.jpg", "people": 0, "crc": 0, "restart": true, "error": "b.jpg: is empty; ..."}
    {"video": "v.mp4", "frame": 0, "time": 0.0, "size": [320, 240], "people": 1, "crc": 91, ...}
    {"file_name": "v.mp4", "frame": 0, "time": 0.0, "bbox": [...], ...}
    {"end": "v.mp4", "people": 0, "crc": 0, "restart": true, "problems": ["v.mp4: ends early"]}

The first line is the header: everything that determines the results. After it come entries: a head
and `people` lines, which are COCO results as in keypoints.json; `crc` is their checksum.
Inputs are in the order in which they are processed; a picture is done with its entry, a video with
its `end`. A run can go on after any entry with `restart`: its results then are the same as without
the interruption. What follows the last such entry, or an entry that is torn or damaged, is dropped.

Whatever else belongs to an entry, such as a drawn picture, is on disk before the entry is.
"""

import contextlib
import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vitpose_jax.errors import UserError
from vitpose_jax.inference.pipeline import Report

JOURNAL_FILE = "keypoints.journal"
FORM = 1
SYNC_SECONDS = 10.0

Header = dict[str, Any]
"""The first line: `journal` (the form's number), and what determines the results."""


@dataclass(frozen=True)
class Entry:
    """A picture or frame, the end of a video, or problems of the run.

    Attributes:
        head: its first line.
        rows: its people, one JSON object each.
        after: the offset in the file of what comes next, in bytes.
    """

    head: dict[str, Any]
    rows: list[bytes]
    after: int

    @property
    def ends_input(self) -> bool:
        """Whether an input is done with this entry."""
        return "image" in self.head or "end" in self.head

    @property
    def report(self) -> Report:
        """What the entry adds to the run's report."""
        problems, error = tuple(self.head.get("problems", ())), self.head.get("error")
        if error is not None:
            return Report(unusable=1, problems=(*problems, error))
        frames = int("size" in self.head)
        return Report(frames, len(self.rows), problems=problems)


def as_bytes(head: Mapping[str, Any], rows: Iterable[str] = ()) -> bytes:
    """An entry as written."""
    body = b"".join(row.encode() + b"\n" for row in rows)
    counted = {**head, "people": body.count(b"\n")}
    return json.dumps({**counted, "crc": _checksum(counted, body)}).encode() + b"\n" + body


def _checksum(head: Mapping[str, Any], body: bytes) -> int:
    """Of the head, as Python's `json.dumps` writes it without `crc`, and of the lines after it."""
    return zlib.crc32(body, zlib.crc32(json.dumps(head).encode()))


def read_journal(path: Path) -> tuple[Header, Iterator[Entry]]:
    """The header, and the entries up to the first that is torn or damaged.

    Raises:
        UserError: the file cannot be read, or is not a journal.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    header = _line(file)
    if header is None or header.get("journal") != FORM:
        file.close()
        raise UserError(f"{path}: is not a journal that this version can read")
    return header, _entries(file)


def _entries(file: IO[bytes]) -> Iterator[Entry]:
    with file:
        while (head := _line(file)) is not None and isinstance(head.get("people"), int):
            rows = [file.readline() for _ in range(head["people"])]
            if head.pop("crc", None) != _checksum(head, b"".join(rows)):
                return
            yield Entry(head, [row.rstrip(b"\n") for row in rows], file.tell())


def _line(file: IO[bytes]) -> dict[str, Any] | None:
    """The JSON object on the next line; None if there is none."""
    line = file.readline()
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(line)
        if line.endswith(b"\n") and isinstance(value, dict):
            return value
    return None


class Journal(contextlib.AbstractContextManager["Journal"]):
    """A journal open for writing, by one process at a time.

    Attributes:
        path: the file.
        done: number of inputs that earlier runs have done.
        report: what earlier runs reported.
        end: the offset at which this run starts to write, in bytes.
    """

    def __init__(self, path: Path, header: Header, resume: bool = False) -> None:
        """Start a journal, or go on with one.

        An existing journal is replaced, unless `resume`. A journal that was hardly begun counts as
        none.

        Raises:
            UserError: another process writes to it; it cannot be written; or it has another
                header, so that its results do not belong to this run.
        """
        self.path, self.done, self.report = path, 0, Report()
        self._synced = time.monotonic()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); choose another --out"
            ) from None
        try:
            self._lock()
            self.end = self._restart(header) if resume and b"\n" in self._beginning() else 0
            os.ftruncate(self._file, self.end)
            if not self.end:
                first = json.dumps({"journal": FORM, **header}).encode() + b"\n"
                self.end = self.write(first, 0)
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self.path}: another process is writing to it; wait for it, or choose another "
                "--out"
            ) from None
        except OSError:  # a file system without locks
            pass

    def _beginning(self) -> bytes:
        return os.pread(self._file, 2**20, 0)

    def _restart(self, header: Header) -> int:
        """Count what is done; the offset from which to write on."""
        known, entries = read_journal(self.path)
        _compare(self.path, known, header)
        after, done = len(self._beginning().partition(b"\n")[0]) + 1, 0
        report, camera = Report(), None
        for entry in entries:
            done += entry.ends_input
            report += entry.report
            camera = entry.head.get("camera")
            if entry.head.get("restart") or camera is not None:
                after, self.done, self.report = entry.after, done, report
        if camera is not None:  # it cannot be watched again
            self.done += 1
            after = self.write(as_bytes({"end": camera, "restart": True}), after)
        return after

    def write(self, data: bytes, at: int) -> int:
        """Write whole entries at an offset and return their end.

        They survive the process at once, and a loss of power after SYNC_SECONDS.

        Raises:
            UserError: they cannot be written.
        """
        end = at
        try:
            while data:
                count = os.pwrite(self._file, data, end)
                data, end = data[count:], end + count
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); free some space there, then "
                "repeat the command with --resume"
            ) from None
        return end

    def close(self) -> None:
        """Close the file, so that another process may go on with it."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            self._file = -1

    def __exit__(self, *_: object) -> None:
        self.close()


def _compare(path: Path, known: Header, header: Header) -> None:
    """Raise UserError if the journal belongs to a run with other settings, inputs or weights."""
    then, now = _comparable(known), _comparable(json.loads(json.dumps(header)))
    differing = [
        f"{name} ({_short(then.get(name))}, now {_short(now.get(name))})"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]
    if differing:
        raise UserError(
            f"{path}: the earlier run differs in {', '.join(differing)}; repeat its command to "
            "resume it, or choose another --out"
        )


def _comparable(header: Header) -> dict[str, Any]:
    model = header.get("model") or {}
    names = "skeleton", "keypoint_names"
    return {
        **{name: header.get(name) for name in names},
        **{f"{name} of the inputs": value for name, value in header.get("inputs", {}).items()},
        "digest of the weights": model.get("digest"),
        **header.get("settings", {}),
    }


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
