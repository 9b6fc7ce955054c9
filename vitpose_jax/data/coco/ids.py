"""Ids as files write them: whole numbers of any size, also as floats or strings, or names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vitpose_jax.files.formats import IMAGE_SUFFIXES

Id = int | str

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,30})")
_EXACT = 2**53
"""Floats round larger whole numbers."""


def plain_id(value: Any) -> Id | None:
    """An id in one form: 7, 7.0 and "7" become 7; other strings stay; None if it is not an id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if abs(value) < _EXACT and value == int(value) else None
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return int(text) if _WHOLE.fullmatch(text) else text
    return None


def fit_in_int64(ids: Sequence[Id]) -> bool:
    """Whether all are whole numbers that fit in int64."""
    return all(isinstance(i, int) and -(2**63) <= i < 2**63 for i in ids)


class ImageIds:
    """Finds the row of an image from whatever names it in the same file or in another.

    This is the image's id; else its file name, with or without folder or suffix; else a number with
    leading zeros. A name that fits two images finds neither.
    """

    def __init__(self, images: Sequence[Mapping[str, Any]]) -> None:
        """Index a file's images by their own ids: `file_id`, or `id` where there is none."""
        ids = (image.get("file_id", image["id"]) for image in images)
        self._rows = {image_id: row for row, image_id in enumerate(ids)}
        self._file_names = [image.get("file_name", "") for image in images]
        self._names: dict[str, int | None] | None = None

    def find(self, value: Any) -> int | None:
        """The image's row, or None."""
        if type(value) is int:
            return self._rows.get(value)
        key = plain_id(value)
        if key is None:
            return None
        by_id = self._rows.get(key)
        if not isinstance(value, str) or (isinstance(key, str) and by_id is not None):
            return by_id
        by_name = self._by_name(value.strip())
        if by_id is not None and by_name is not None and by_id != by_name:
            return None
        if by_id is None and by_name is None and value.strip().isdecimal():
            return self._rows.get(int(value[:30]))
        return by_name if by_id is None else by_id

    def _by_name(self, name: str) -> int | None:
        if self._names is None:
            self._names = {}
            for row, file_name in enumerate(self._file_names):
                for form in _forms(file_name):
                    known = self._names.setdefault(form, row)
                    self._names[form] = row if known == row else None
        return next((self._names[f] for f in _forms(name) if f in self._names), None)


def _forms(name: str) -> tuple[str, ...]:
    """A file name in ever shorter forms: without its suffix, its folder, or both."""
    path = name.replace("\\", "/")
    stem, dot, suffix = path.rpartition(".")
    whole = stem if dot + suffix.lower() in IMAGE_SUFFIXES else path
    return tuple(dict.fromkeys((path, whole, path.rpartition("/")[2], whole.rpartition("/")[2])))
