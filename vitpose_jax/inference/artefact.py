"""Exported models on disk: the file itself, and a description beside it, FILE.json.

Reading them needs no JAX.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vitpose_jax.errors import UserError
from vitpose_jax.files.digests import sha256
from vitpose_jax.files.json_file import read_object
from vitpose_jax.keypoints.skeletons import Skeleton
from vitpose_jax.weights.schema import check_fields

FORMAT = "vitpose_jax export"
FORMAT_VERSION = 1
SUFFIXES = {"onnx": ".onnx", "stablehlo": ".stablehlo"}
PROGRAM_FILE, WEIGHTS_FILE = "program.jax", "weights.safetensors"
Kind = Literal["pose", "network", "forecaster"]
"""What is inside: crops to keypoints, normalised crops to heatmaps, or a motion to its future."""

_TYPES: dict[str, type] = {"holds": str, "runtime": str, "size": int, "sha256": str, "dtype": str}
_TYPES |= {"certificate": dict, "made_with": dict}
_POSE_TYPES: dict[str, type] = {"skeleton": dict, "input_size": list, "heatmap_size": list}
_POSE_TYPES |= {"flip_test": bool, "decoder": str}


@dataclass(frozen=True)
class Artefact:
    """An exported model whose bytes are those of its certificate.

    Attributes:
        path: the model's file.
        values: its description, as in FILE.json.
    """

    path: Path
    values: dict[str, Any]

    @property
    def kind(self) -> Kind:
        return self.values["holds"]

    @property
    def runtime(self) -> str:
        return self.values["runtime"]

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of a pose model."""
        return Skeleton.from_dict(self.values["skeleton"])


def is_exported(source: str | Path) -> bool:
    """Whether this names an exported model."""
    return Path(source).suffix.lower() in SUFFIXES.values()


def description_of(path: Path) -> Path:
    """The description beside an exported model."""
    return path.with_name(path.name + ".json")


def read_artefact(source: str | Path) -> Artefact:
    """Read the description of an exported model, and check that the file is the one described.

    Raises:
        UserError: a file is missing or damaged, was cut off or changed, or is of another version of
            the format.
    """
    path = Path(os.path.expanduser(source))
    beside = description_of(path)
    if not path.is_file():
        raise UserError(f"{source}: no such file")
    if not beside.is_file():
        raise UserError(
            f"{source}: its description {beside.name} is missing; copy it from where the model was "
            "exported, or export again with `vitpose export`"
        )
    values = read_object(beside)
    _check(values, str(beside))
    size = path.stat().st_size
    if size != values["size"]:
        raise UserError(
            f"{source}: has {size} bytes, but {beside.name} says {values['size']}: it was cut off "
            "or belongs to another export; copy both files again"
        )
    if sha256(path) != values["sha256"]:
        raise UserError(
            f"{source}: its bytes are not those of its certificate (SHA-256 in {beside.name}): it "
            "was changed or damaged; copy both files again, or export again"
        )
    return Artefact(path, values)


def _check(values: dict[str, Any], where: str) -> None:
    """Raise UserError unless a description has what the rest of the package reads."""
    if values.get("format") != FORMAT:
        raise UserError(f"{where}: is not the description of a model that `vitpose export` wrote")
    if (version := values.get("format_version")) != FORMAT_VERSION:
        raise UserError(
            f"{where}: is in version {version!r:.20} of the format, but this vitpose-jax reads "
            f"version {FORMAT_VERSION}; export again, or install the version that wrote it"
        )
    if values.get("holds") not in get_args(Kind) or values.get("runtime") not in SUFFIXES:
        raise UserError(f"{where}: holds or runtime is nothing that `vitpose export` writes")
    types = _TYPES | (_POSE_TYPES if values["holds"] == "pose" else {})
    for name, kind in types.items():
        if type(values.get(name)) is not kind:
            raise UserError(f"{where}: {name} is missing or not of type {kind.__name__}")
    if values["holds"] == "pose":
        check_fields(Skeleton, values["skeleton"], f"{where}: skeleton")
        Skeleton.from_dict(values["skeleton"]).check()
        for name in ("input_size", "heatmap_size"):
            sides = values[name]
            if len(sides) != 2 or any(type(n) is not int or not 0 < n < 10_000 for n in sides):
                raise UserError(f"{where}: {name} is {sides!r:.60}, not a height and a width")
