"""Checking values from config.json against the dataclasses they are for, before using them."""

import dataclasses
from collections.abc import Iterable
from types import EllipsisType, NoneType
from typing import Any, get_args, get_type_hints

from vitpose_jax.errors import UserError

LARGEST = 1_000_000
"""Larger than any width, count or size of a network."""


def check_fields(kind: type, values: Any, where: str) -> dict[str, Any]:
    """Check that `values` are fields of a dataclass and have the annotated types.

    Numbers must lie in 0..`LARGEST`.

    Args:
        kind: the dataclass; its fields are numbers, strings, None, or tuples or unions of those.
        values: from JSON, where tuples are lists.
        where: the file and the place in it, for messages.

    Returns:
        The values.

    Raises:
        UserError: `values` is not an object, or a field is unknown, missing or of another type.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where} must be a JSON object, not {type(values).__name__}")
    types = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        is_needed = dataclasses.MISSING is field.default is field.default_factory
        if is_needed and field.name not in values:
            raise UserError(f"{where}: {field.name} is missing")
    for name, value in values.items():
        if name not in types:
            raise UserError(f"{where}: {name!r:.60} is not one of its fields, {', '.join(types)}")
        if not _fits(value, types[name]):
            wanted = getattr(types[name], "__name__", None) or str(types[name])
            raise UserError(f"{where}: {name} is {value!r:.60}, which is no {wanted} it can have")
    return values


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of an annotated type."""
    if kind is int:
        return type(value) is int and 0 <= value <= LARGEST
    if kind is float:
        return type(value) in (int, float) and 0 <= value <= LARGEST
    if kind in (bool, str, NoneType):
        return type(value) is kind
    arguments = get_args(kind)
    if getattr(kind, "__origin__", None) is not tuple:  # a union
        return any(_fits(value, one) for one in arguments)
    if not isinstance(value, list | tuple):
        return False
    if isinstance(arguments[-1], EllipsisType):
        return all(_fits(part, arguments[0]) for part in value)
    return len(value) == len(arguments) and all(map(_fits, value, arguments))


def check_sizes(sizes: Iterable[tuple[str, object, object]], where: str) -> None:
    """Compare the sizes in config.json with those of the tensors, before anything is built.

    Args:
        sizes: name, size in config.json, and size of the tensors.
        where: the file, for messages.

    Raises:
        UserError: two sizes differ.
    """
    for name, said, found in sizes:
        if said != found:
            raise UserError(
                f"{where}: {name} is {said!r:.60} in config.json, but {found} in the tensors; "
                "config.json and weights belong to different models, or one was changed"
            )
