"""Holds calls to the array shapes that annotations state, from the import of this module on."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, get_args

import jaxtyping
from beartype import beartype

ROOMS = [f"vitpose_jax.{room}" for room in ("keypoints", "models", "evaluation", "inference")]


def typecheck(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype` of the annotations that state a shape: for all others there is mypy."""
    hints = getattr(function, "__annotations__", {})
    shapes = {name: hint for name, hint in hints.items() if _states_shape(hint)}
    if not shapes or not isinstance(function, FunctionType):
        return function
    copied = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__, copied.__annotations__ = function.__kwdefaults__, shapes
    return beartype(copied)


def _states_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_states_shape, get_args(hint)))


jaxtyping.install_import_hook(ROOMS, "shape_checks.typecheck")
