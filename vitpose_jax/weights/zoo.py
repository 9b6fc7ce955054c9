"""The published models that have names here: where they are, their digests, and what is known.

This is the only table of them: `vitpose models`, docs/models.md, the defaults and the downloads all
read it. A revision is a commit of the repository on the Hugging Face hub, and never changes. The
SHA-256 are those that independent projects recorded for these revisions; None where none was
found, and then the hub's own check of the download is all there is. AP are the authors' figures.
"""

import re
from dataclasses import dataclass
from typing import Literal

from vitpose_jax.errors import UserError
from vitpose_jax.files.names import nearest

VITPOSE_FIGURES = "https://github.com/ViTAE-Transformer/ViTPose"
"""COCO val2017, 256x192, boxes of a detector with 56 AP on people, flip test."""
DFINE_FIGURES = "https://github.com/Peterande/D-FINE"
"""COCO val2017, box AP over all 80 classes."""

SIX_SETS = "COCO, AIC, MPII, AP-10K, APT-36K, WholeBody"
SIZES = {"s": "small", "b": "base", "l": "large", "h": "huge"}


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        name: what it is called here.
        kind: a pose model, or a detector of people.
        repository, revision: where it is on the Hugging Face hub.
        files: its files there; the first holds the weights.
        sha256: of the first file, if known.
        megabytes: size of the download.
        network: architecture and size.
        trained_on: data sets.
        keypoints: how many it finds, and whose; "" for detectors.
        ap: published average precision, in percent.
        source: address of the page that gives `ap`.
        licence: of the weights.
    """

    name: str
    kind: Literal["pose", "detector"]
    repository: str
    revision: str
    files: tuple[str, ...]
    sha256: str | None
    megabytes: int
    network: str
    trained_on: str
    keypoints: str
    ap: float
    source: str
    licence: str = "Apache-2.0"


def _pose(
    name: str,
    revision: str,
    sha256: str | None,
    megabytes: int,
    network: str,
    trained_on: str,
    ap: float,
) -> Published:
    return Published(
        name,
        "pose",
        f"usyd-community/vitpose-{name}",
        revision,
        ("model.safetensors", "config.json"),
        sha256,
        megabytes,
        network,
        trained_on,
        "17 (COCO)",
        ap,
        VITPOSE_FIGURES,
    )


def _detector(size: str, revision: str, sha256: str, megabytes: int, ap: float) -> Published:
    return Published(
        f"dfine-{size}",
        "detector",
        f"onnx-community/dfine_{size}_coco-ONNX",
        revision,
        ("onnx/model.onnx",),
        sha256,
        megabytes,
        f"D-FINE-{size.upper()}",
        "COCO",
        "",
        ap,
        DFINE_FIGURES,
    )


POSE_MODELS: dict[str, Published] = {
    model.name: model
    for model in (
        _pose(
            "base-simple",
            "a93ac0c67e0b7e2c55287d21d4c460c8f3c54d45",
            "85375373893ddd3641f3912821073e53f5435f9e966e1dca59d004454bfe4fdf",
            344,
            "ViTPose-B, simple decoder",
            "COCO",
            75.5,
        ),
        _pose(
            "base",
            "95be2991424e646950d656bb7fc15ec9be119700",
            "cd9a4e6cefc33c51ddcc32dd509fc4114b5845256463a69a10ea2dfde402b2f8",
            360,
            "ViTPose-B",
            "COCO",
            75.8,
        ),
        _pose(
            "base-coco-aic-mpii",
            "1c97abb299207947767d028bf349c543ae06a49f",
            None,
            360,
            "ViTPose-B",
            "COCO, AIC, MPII",
            77.1,
        ),
        _pose(
            "plus-small",
            "0c30b6534bb621af0162b481176742577264e36e",
            "f7bad8ed09eeeb2a7de6b38faaa8a88d07838e23e9c06a2a782099bca7467cb9",
            133,
            "ViTPose+-S",
            SIX_SETS,
            75.8,
        ),
        _pose(
            "plus-base",
            "92be54d7a29e42fad47b6e2ca01dd9e685a61e0d",
            "640225e4a9dd544239f1da0ae36af865a6e76e21e5f33a12656aa7b77fa5a5fa",
            502,
            "ViTPose+-B",
            SIX_SETS,
            77.0,
        ),
        _pose(
            "plus-large",
            "e211df377e49c89dba508ab3e83ddef13c0832b4",
            None,
            1738,
            "ViTPose+-L",
            SIX_SETS,
            78.6,
        ),
        _pose(
            "plus-huge",
            "9f36d7aec1800d23e97f10c2e74393aee92aa53f",
            "0ecb49f1ab0b18cc2f18446b8100442cec88bd99dd53779ad5a7f8c71aa08506",
            3598,
            "ViTPose+-H",
            SIX_SETS,
            79.4,
        ),
    )
}
DEFAULT_POSE_MODEL = "base-simple"

DETECTORS: dict[str, Published] = {
    model.name: model
    for model in (
        _detector(
            "n",
            "380d2839c327efaf65dd0fe0c2c10ab7fadd5473",
            "0f684f409618ee8a822410e754a29caa817d1aa16283ce89cad936d0a48e2f35",
            15,
            42.8,
        ),
        _detector(
            "s",
            "a3cf03147a9b86c78475139115c8ac142577352d",
            "cd8a49a945feda6d28c6304ae8ae85c2759ba1d78a5a83a22c5ce8db82ef7238",
            42,
            48.5,
        ),
        _detector(
            "m",
            "489756db2825cb068a588fe930af239a656d1fe1",
            "70aaa837978a06ba44ad17398c7079ae5a1a7b1a9032b5d7053981e1ada02d6b",
            79,
            52.3,
        ),
        _detector(
            "l",
            "e09b218185400510b68d067bbd0c9379d905ffcd",
            "d678f3baebfb909d3a20f21d1d807544d0172ed47fa1ab88e7fcdec7e365b236",
            125,
            54.0,
        ),
    )
}
DEFAULT_DETECTOR = "dfine-s"


def published_pose_model(text: str) -> Published | None:
    """The pose model that a short name or an unversioned hub id means; None if it is neither.

    Besides the names of the table, its size alone is understood where only one model has it
    (`small`), and the original's spellings (`vitpose-b`, `ViTPose+_base`).
    """
    for model in POSE_MODELS.values():
        if text == model.repository:
            return model
    words = re.split(r"[-_+ ]+", text.lower().replace("+", "-plus-").removeprefix("vitpose"))
    name = "-".join(SIZES.get(word, word) for word in words if word)
    return POSE_MODELS.get(name) or POSE_MODELS.get(f"plus-{name}")


def published_detector(name: str) -> Published:
    """The detector of a name.

    Raises:
        UserError: there is no such detector.
    """
    if name not in DETECTORS:
        close = nearest(name, DETECTORS)
        hint = f" (did you mean {close}?)" if close else ""
        raise UserError(
            f"no detector {name!r:.80}{hint}: choose one of {', '.join(DETECTORS)}, a path that "
            "ends in .onnx, or none"
        )
    return DETECTORS[name]
