"""Files of results made from a journal, without holding them in memory.

docs/results.md describes the formats.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import replacing
from vitpose_jax.inference.journal import Entry, Header, read_journal

RESULTS = "keypoints"
"""The name of all files of results, before the suffix."""

Entries = Iterator[Entry]


def make_results(journal: Path, formats: Sequence[str]) -> None:
    """Make a file of results in each of the formats beside a journal, replacing older ones.

    Raises:
        UserError: the journal cannot be read to its end, or a file cannot be written.
    """
    for name in formats:
        header, entries = read_journal(journal)
        path = results_path(journal.parent, name)
        with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            for text in FORMATS[name](header, _whole(journal, entries)):
                file.write(text)


def results_path(folder: Path, name: str) -> Path:
    """Where the results of a format are in a run's folder."""
    return folder / f"{RESULTS}.{name}"


def _whole(path: Path, entries: Entries) -> Entries:
    """The entries; raises UserError if something else follows them."""
    after = None
    for entry in entries:
        after = entry.after
        yield entry
    if after is not None and after != path.stat().st_size:
        raise UserError(
            f"{path}: is damaged from byte {after} on; repeat the command with --resume"
        )


def coco_json(header: Header, entries: Entries) -> Iterator[str]:
    """COCO's keypoint results: one list, an entry to a line."""
    before = "[\n"
    for entry in entries:
        for row in entry.rows:
            yield before + row.decode()
            before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def json_lines(header: Header, entries: Entries) -> Iterator[str]:
    """One object a person, which says everything about itself."""
    for entry in entries:
        for row in map(json.loads, entry.rows):
            points = _by_name(header, row.pop("keypoints"))
            line = {
                **row,
                "image_size": entry.head["size"],
                "skeleton": header["skeleton"],
                "keypoints": points,
                "model": header["model"],
            }
            yield json.dumps(line) + "\n"


def table(header: Header, entries: Entries) -> Iterator[str]:
    """Comma-separated values: a line of names, then a row a person."""
    names = [f"{n}_{what}" for n in header["keypoint_names"] for what in ("x", "y", "score")]
    yield _row([*_COLUMNS, *names])
    for entry in entries:
        width, height = entry.head.get("size", (None, None))
        for row in map(json.loads, entry.rows):
            box = dict(zip(("box_x", "box_y", "box_width", "box_height"), row["bbox"], strict=True))
            values = {**row, **box, "image_width": width, "image_height": height}
            yield _row([*(values.get(name) for name in _COLUMNS), *row["keypoints"]])


_COLUMNS = (
    *("file_name", "image_id", "frame", "time", "track_id", "image_width", "image_height"),
    *("category_id", "box_x", "box_y", "box_width", "box_height", "bbox_score", "score"),
)


def _row(values: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _by_name(header: Header, flat: list[float | None]) -> dict[str, list[float | None]]:
    """[x, y, score] by the keypoint's name."""
    names = header["keypoint_names"]
    return {name: flat[3 * i : 3 * i + 3] for i, name in enumerate(names)}


FORMATS: Mapping[str, Callable[[Header, Entries], Iterator[str]]] = {
    "json": coco_json,
    "jsonl": json_lines,
    "csv": table,
}
