"""Holds calls to the array shapes that annotations state, from the import of this module on."""

from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import beartype

ROOMS = [f"vitpose_jax.{room}" for room in ("keypoints", "models", "evaluation", "inference")]


def typecheck(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype`, for functions that state a shape: for all others there is mypy."""
    stated = any(map(_states_shape, getattr(function, "__annotations__", {}).values()))
    return beartype(function) if stated else function


def _states_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_states_shape, get_args(hint)))


jaxtyping.install_import_hook(ROOMS, "shape_checks.typecheck")
