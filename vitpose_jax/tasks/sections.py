"""Sections of a configuration as the dataclasses they stand for."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from vitpose_jax.errors import UserError

Section = TypeVar("Section")


def read_section(kind: type[Section], values: Mapping[str, Any], where: str) -> Section:
    """`kind(**values)`, `where` being the section's name in messages ("config.augmentation").

    Raises:
        UserError: a field that `kind` does not have, or one without a default left out.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := [name for name in values if name not in fields]:
        raise UserError(f"{where} has no {unknown[0]!r}; its fields are {', '.join(fields)}")
    nothing = dataclasses.MISSING
    for name, field in fields.items():
        if name not in values and field.default is nothing and field.default_factory is nothing:
            raise UserError(f"{where}.{name} is not set")
    return kind(**values)
