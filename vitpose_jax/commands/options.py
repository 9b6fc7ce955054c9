"""What the options of several commands have in common."""

import argparse
from typing import TYPE_CHECKING, TypeAlias

from vitpose_jax.errors import UserError

if TYPE_CHECKING:
    from vitpose_jax.inference.boxes import BoxFile
    from vitpose_jax.inference.detector import PersonDetector

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command adds its parser to."""


def parse_size(text: str) -> tuple[int, int]:
    """Parse "256x192" as (height, width).

    Raises:
        argparse.ArgumentTypeError: the text is not such a size.
    """
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x192")
    return int(height), int(width)


def add_num_heads(parser: argparse._ActionsContainer) -> None:
    """Add `--num-heads`, for weights whose shapes do not tell."""
    parser.add_argument(
        "--num-heads", type=int, metavar="N", help="attention heads, for weights of unusual width"
    )


def add_min_score(parser: argparse._ActionsContainer, what: str) -> None:
    """Add `--min-score`; `what` says what it does."""
    parser.add_argument(
        "--min-score", type=float, default=0.3, metavar="S", help=f"{what} (default: %(default)s)"
    )


def open_finder(
    boxes: str | None, detector: str | None, any_category: bool = False
) -> "BoxFile | PersonDetector | None":
    """What `--boxes` and `--detector` say of where people are.

    Args:
        boxes: file of boxes.
        detector: name, file, or "none" for whole pictures; by default, without boxes, D-FINE.
        any_category: take a file's boxes of every category.

    Raises:
        UserError: both are given, or what is given cannot be used.
    """
    from vitpose_jax.inference.boxes import read_boxes
    from vitpose_jax.inference.detector import DEFAULT_DETECTOR, PersonDetector

    if boxes is None:
        name = detector or DEFAULT_DETECTOR
        return None if name == "none" else PersonDetector(name)
    if detector is not None:
        raise UserError("--boxes and --detector exclude each other: people come from one of them")
    return read_boxes(boxes, any_category=any_category)
