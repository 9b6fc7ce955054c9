"""Configurations from what the user typed: a name with its argument, and `key=value` changes."""

import ast
import difflib
import importlib
import inspect
import pkgutil
import runpy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from vitpose_jax.errors import UserError
from vitpose_jax.tasks.run import task_of
from vitpose_jax.training import workdir

_WORDS = {"true": True, "1": True, "false": False, "0": False}


def make_configuration(
    name: str, changes: Sequence[str] = (), *, data: str = "", weights: str = ""
) -> ml_collections.ConfigDict:
    """Make the configuration of a new run, or of an evaluation of weights.

    Args:
        name: as for `load_configuration`.
        changes: `key=value`, where keys are dotted names.
        data: the data set, in place of the configuration's own.
        weights: `init_from`, likewise. Where the configuration leaves the model's shape open, these
            weights decide it.

    Raises:
        UserError: there is no such configuration or key, a value has the wrong type, or data or
            weights are missing (each in a message of its own).
    """
    config = load_configuration(name, data)
    if weights:
        config.init_from = weights
    change(config, changes)
    task_of(config).complete(config)
    change(config, changes)  # what is given prevails over the shape of the weights
    return config


def run_configuration(folder: Path, changes: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Return the configuration of the run in `folder`, with changes.

    Raises:
        UserError: it is no run, or as for `change`.
    """
    config = workdir.read_run(folder).config
    change(config, changes)
    return config


def load_configuration(value: str, data: str = "") -> ml_collections.ConfigDict:
    """Make the configuration of `NAME:ARGUMENT` or `FILE.py:ARGUMENT`.

    Args:
        value: the name of a configuration in `vitpose_jax.configs` or a file, and its argument.
        data: the data set, in place of the one in the argument.

    Raises:
        UserError: there is no such configuration, or it rejects its argument.
    """
    name, *argument = value.split(":", 1)
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UserError(f"No such file or directory: {name!r}")
        names = runpy.run_path(name)
    else:
        known = configuration_names()
        if name not in known:
            raise UserError(
                f"no configuration {name!r}; choose one of {', '.join(known)}, or a file NAME.py"
            )
        names = vars(importlib.import_module(f"vitpose_jax.configs.{name}"))
    if "get_config" not in names:
        raise UserError(f"{name} defines no function get_config")
    get_config = names["get_config"]
    first, *_ = [*inspect.signature(get_config).parameters, ""]
    if data and "data" in inspect.signature(get_config).parameters:
        if argument and first == "data":
            raise UserError(f"the data set is given twice: {argument[0]!r} and {data!r}")
        return get_config(*argument, data=data).lock()
    config = get_config(*argument).lock()
    if data:
        config.data = data
    return config


def configuration_names() -> list[str]:
    """Return the names of the configurations that are installed."""
    package = importlib.import_module("vitpose_jax.configs")
    return [module.name for module in pkgutil.iter_modules(package.__path__)]


def change(config: ml_collections.ConfigDict, changes: Iterable[str]) -> None:
    """Set values of a configuration, in place; each change is `key=value`, or `config.key=value`.

    A value is read as the type of the one it replaces. Tuples may be written without brackets and
    quotes: `frozen=backbone,neck`.

    Raises:
        UserError: there is no such key (the message says which is meant), or the value has the
            wrong type.
    """
    for text in changes:
        name, equals, value = text.removeprefix("config.").partition("=")
        if not equals:
            raise UserError(f"{text!r} changes nothing: write KEY=VALUE")
        *parents, last = name.split(".")
        section: Any = config
        for depth, parent in enumerate(parents, start=1):
            outer, section = section, section.get(parent, ()) if _is_section(section) else ()
            if section is None and outer.get_type(parent) is type(None):
                raise UserError(
                    f"config.{name}={value}: config.{'.'.join(parents[:depth])} is None; give the "
                    "whole of it, as {'kind': ...}"
                )
        if not _is_section(section) or last not in section:
            raise UserError(
                f"config.{name}={value}: the configuration has no such value{_meant(config, name)}"
            )
        if _is_section(section[last]):
            inside = ", ".join(f"{name}.{key}" for key in section[last])
            raise UserError(f"config.{name} is a section; set one of {inside}")
        try:
            section[last] = _read(value, section.get_type(last))
        except (ValueError, TypeError, KeyError):
            kind = section.get_type(last).__name__
            raise UserError(
                f"config.{name}={value}: the value must be of type {kind}, like {section[last]!r}"
            ) from None


def _is_section(value: object) -> bool:
    return isinstance(value, ml_collections.ConfigDict)


def _read(text: str, kind: type) -> Any:
    """Read a value as a type; raises ValueError or KeyError."""
    if kind is str:
        return text
    if kind is bool:
        return _WORDS[text.lower()]
    if text.lower() == "none":
        return None
    if kind in (int, float):
        return kind(text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = tuple(filter(None, text.split(","))) if kind is tuple else text
    return (value,) if kind is tuple and not isinstance(value, tuple | list) else value


def _meant(config: ml_collections.ConfigDict, name: str) -> str:
    """Suggest keys for one that does not exist: the same field elsewhere, or a similar one."""
    fields = {key: key.split(".")[-1] for key in _keys(config)}
    last = name.split(".")[-1]
    found = [key for key, field in fields.items() if field == last]
    found = found or difflib.get_close_matches(name, fields, n=1)
    near = difflib.get_close_matches(last, fields.values(), n=1)
    found = found or [key for key, field in fields.items() if field in near]
    return f"; did you mean config.{' or config.'.join(found)}?" if found else ""


def _keys(config: ml_collections.ConfigDict, prefix: str = "") -> Iterator[str]:
    for name in config:
        value = config[name]
        if _is_section(value):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name
