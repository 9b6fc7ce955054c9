"""From a request's parts to arrays, and from people to the answer's JSON."""

import base64
import io
import json
import math
from typing import Any

import numpy as np
from PIL import Image

from vitpose_jax.errors import UserError, printable
from vitpose_jax.files.pictures import decode_image, size_in_header
from vitpose_jax.inference.estimator import PoseEstimator, Prediction
from vitpose_jax.inference.person import Person
from vitpose_jax.keypoints.crops import PIXEL_STD, box_to_center_scale

MOST_BOXES = 200


def picture_of(data: bytes, most_pixels: int) -> np.ndarray:
    """Decode a picture, uint8 RGB, upright.

    Raises:
        UserError: it is none, is damaged, or has too many pixels.
    """
    try:
        width, height = size_in_header(io.BytesIO(data)) if data else (0, 0)
        if width * height > most_pixels:
            raise UserError(
                f"has {width} x {height} pixels, more than {most_pixels / 1e6:g} million; scale it "
                "down"
            )
        return decode_image(data)
    except UserError as error:
        raise UserError(f"the picture {printable(str(error))}") from None


def boxes_of(text: str | None) -> list[list[float]] | None:
    """The boxes that a request gives as JSON, or None.

    Raises:
        UserError: it is not a list of x, y, width, height in finite numbers.
    """
    if text is None or not text.strip():
        return None
    try:
        boxes = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError("boxes is not JSON; give [[x, y, width, height], ...] in pixels") from None
    if not isinstance(boxes, list) or len(boxes) > MOST_BOXES:
        raise UserError(f"boxes must be a list of at most {MOST_BOXES} boxes [x, y, width, height]")
    for index, box in enumerate(boxes):
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise UserError(f"boxes[{index}] is not [x, y, width, height] in numbers of pixels")
    return boxes


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e9 and math.isfinite(value)


def answer(
    name: str, estimator: PoseEstimator, found: Prediction, seconds: float, heatmaps: bool
) -> dict[str, Any]:
    """What a request is answered."""
    people = []
    for person in found.people:
        values = person.to_dict()
        del values["track"]
        if heatmaps and person.heatmaps is not None:
            values["heatmap"] = _heatmap(person, estimator.input_size)
        people.append(values)
    width, height = found.image_wh
    return {
        "model": name,
        "width": width,
        "height": height,
        "people": people,
        "problem": found.problem,
        "seconds": round(seconds, 4),
    }


def _heatmap(person: Person, input_size: tuple[int, int]) -> dict[str, Any]:
    """The largest of a person's heatmaps at each place, as a grey PNG, and the region it covers."""
    assert person.heatmaps is not None
    values = np.nan_to_num(person.heatmaps).max(-1)
    center, scale = box_to_center_scale(person.box, input_size)
    size = scale * PIXEL_STD
    buffer = io.BytesIO()
    grey = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(grey).save(buffer, "PNG")
    return {
        "png": base64.b64encode(buffer.getvalue()).decode(),
        "region": [round(float(v), 2) for v in (*(center - size / 2), *size)],
    }
