"""Where people are: the one rule, for commands and for Python."""

from collections.abc import Sequence
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.inference.boxes import BoxFile, read_boxes
from vitpose_jax.inference.detector import PersonDetector
from vitpose_jax.weights.zoo import DEFAULT_DETECTOR

WHOLE_IMAGE = "none"
"""The name, in place of a detector's, for taking each whole image as one person."""


def open_finder(
    boxes: str | Path | None = None,
    detector: str | Path | None = None,
    any_category: bool = False,
    categories: Sequence[str] = (),
) -> BoxFile | PersonDetector | None:
    """Open what says where people are; None stands for whole images as people.

    A file of boxes comes first, then the detector named, then the default detector.

    Args:
        boxes: a file as for `read_boxes`.
        detector: as for `PersonDetector`, or "none" for whole images.
        any_category, categories: as for `read_boxes`.

    Raises:
        UserError: boxes and a detector are given, or what is given cannot be used.
    """
    if boxes is None:
        if categories:
            raise UserError("--category says which boxes of --boxes FILE are people: give both")
        name = str(detector or DEFAULT_DETECTOR)
        return None if name == WHOLE_IMAGE else PersonDetector(name)
    if detector is not None:
        raise UserError("--boxes and --detector exclude each other: people come from one of them")
    return read_boxes(boxes, any_category, categories)
