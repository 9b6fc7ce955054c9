"""Which boxes of a file are people, according to the file's category names or the user."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vitpose_jax.data.coco.ids import Id, plain_id
from vitpose_jax.errors import UserError

PERSON_CATEGORY = 1
"""COCO's person."""

_PERSON_NAMES = frozenset(
    {"person", "persons", "people", "human", "humans", "pedestrian", "pedestrians"}
)
_ID_KEYS = ("category_id", "class_id", "label_id")
_NAME_KEYS = ("category_name", "category", "class_name", "class", "label", "label_name")


def named_categories(content: Any, where: str) -> dict[Id, str]:
    """The category names by id in a file's `categories`; empty if it has no such field.

    Raises:
        UserError: the field has another form.
    """
    categories = content.get("categories") if isinstance(content, dict) else None
    if categories is None:
        return {}
    named: dict[Id, str] = {}
    for index, category in enumerate(categories if isinstance(categories, list) else [None]):
        known = plain_id(category.get("id")) if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        if known is None or not isinstance(name, str) or known in named:
            raise UserError(
                f'{where}: "categories" must be objects, each with an id of its own and a name; '
                f"[{index}] is {category!r:.60}"
            )
        named[known] = name
    return named


def category_of(where: str, entry: Mapping[str, Any]) -> tuple[Id | None, str | None]:
    """(id, or name if it has no id; name) of an entry's category; None for what it lacks.

    Raises:
        UserError: the category is neither a number nor a name.
    """
    if type(number := entry.get("category_id")) is int and entry.keys().isdisjoint(_NAME_KEYS):
        return number, None  # the common case
    given = {key: entry[key] for key in (*_ID_KEYS, *_NAME_KEYS) if entry.get(key) is not None}
    if not given:
        return None, None
    key, value = next(iter(given.items()))
    label = plain_id(value)
    if label is None:
        raise UserError(f"{where}: {key} must be a whole number or a name, not {value!r:.40}")
    names = (v for v in given.values() if isinstance(v, str) and isinstance(plain_id(v), str))
    return label, next(names, None)


def people_categories(
    where: str, counts: Counter[Id | None], names: Mapping[Id, str], wanted: Sequence[str] = ()
) -> set[Id | None]:
    """The categories that are people.

    These are the ones the user wants; otherwise those with the name of a person; otherwise, if
    there are only numbers, COCO's person. Boxes without a category count as people unless the
    file's categories say otherwise.

    Args:
        where: the file, for messages.
        counts: number of boxes by category.
        names: names of the categories that have one.
        wanted: names or ids that the user chose.

    Raises:
        UserError: no box is of a person, or only the user can tell which are.
    """
    listed = describe({label: counts[label] for label in [*names, *counts]}, names)
    which = f"it has {listed}; say which are people: --category NAME or ID"
    if wanted:
        people: set[Id | None] = set()
        for one in wanted:
            labels = [label for label in (*names, *counts) if label is not None]
            by_name = {v for v in labels if _plain(str(names.get(v, v))) == _plain(one)}
            found = by_name or {v for v in labels if str(v) == one.strip()}
            if not found:
                raise UserError(f"{where}: has no category {one!r}; {which}")
            people |= found
    elif names:
        if unnamed := [label for label in counts if label is not None and label not in names]:
            raise UserError(f"{where}: does not name category_id {unnamed[0]}; {which}")
        people = {label for label, name in names.items() if _plain(name) in _PERSON_NAMES}
        people |= {None} if people else set()
    else:
        numbers = set(counts) - {None}
        as_in_coco = PERSON_CATEGORY in numbers and 0 not in numbers
        people = {None, PERSON_CATEGORY} if as_in_coco or not numbers else {None}
    if not any(counts[label] for label in people):
        raise UserError(f"{where}: holds no boxes of people; {which}")
    if not wanted and not names and None in counts and len(counts) > 1 and len(people) == 1:
        raise UserError(f"{where}: only some boxes have a category; {which}")
    return people


def describe(counts: Mapping[Id | None, int], names: Mapping[Id, str]) -> str:
    """The number of boxes in each category, in words."""
    words = []
    for label, count in sorted(counts.items(), key=lambda item: str(item[0])):
        kind = "no category" if label is None else f"category_id {label}"
        if label is not None and label in names:
            kind = names[label] if names[label] == label else f"{names[label]!r} ({kind})"
        words.append(f"{count} of {kind}")
    return ", ".join(words[:20]) + (f" and {len(words) - 20} more" if len(words) > 20 else "")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
