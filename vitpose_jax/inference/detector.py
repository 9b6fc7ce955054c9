"""Finding people: D-FINE (Peng et al., ICLR 2025) through ONNX Runtime.

Why D-FINE: its code and COCO weights are Apache-2.0 (unlike the AGPL YOLOs); according to its
authors, its small size reaches 48.5 AP on COCO, while YOLOX-S, the other permissively licensed
candidate, reaches 40.5; it needs no letterboxing, anchors or non-maximum suppression; and ready
ONNX files are on the Hugging Face hub (pinned in `weights.zoo`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64

from vitpose_jax.errors import UserError, first_line, short_errors
from vitpose_jax.files.pictures import Pixels
from vitpose_jax.weights.hub import fetch
from vitpose_jax.weights.zoo import DEFAULT_DETECTOR, published_detector

OTHER_WAYS = "or give --boxes FILE, or --detector none to take each whole image as one person"

PERSON_CLASS = {1: 0, 80: 0, 91: 1}
"""The index of the person class, by the number of classes (COCO's 80, or its 91 category ids)."""


class PersonDetector:
    """Finds the boxes of people in an image.

    Works with D-FINE, RT-DETR and other networks of the DETR family exported with transformers'
    conventions: input pixels in [0, 1], (1, 3, H, W); outputs `logits` (1, N, classes) and
    `pred_boxes` (1, N, 4), centre and size relative to the image.

    Example:
        >>> detector = PersonDetector("detector.onnx")  # or a name: PersonDetector("dfine-s")
        >>> estimator = PoseEstimator.from_pretrained("weights/vitpose-b")
        >>> people = estimator("people.jpg", detector)
        >>> len(people)
        1
    """

    @short_errors
    def __init__(self, model: str | Path = DEFAULT_DETECTOR, threshold: float = 0.4) -> None:
        """Load a detector.

        Args:
            model: a key of `zoo.DETECTORS` (downloaded once, then cached) or an .onnx file.
            threshold: people with a lower score are left out.

        Raises:
            UserError: the file cannot be fetched or used.
        """
        import onnxruntime as runtime

        path = _find_model(str(model))
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        try:
            providers = runtime.get_available_providers()
            self._session = runtime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # the runtime's exceptions share no base class
            reason = first_line(error)
            raise UserError(f"{path}: ONNX Runtime cannot load this detector ({reason})") from None
        self._threshold = threshold
        outputs = [output.name for output in self._session.get_outputs()]
        if not {"logits", "pred_boxes"} <= set(outputs):
            raise UserError(
                f"{path}: a detector must give outputs logits and pred_boxes (D-FINE, RT-DETR), "
                f"this one gives {', '.join(outputs)}"
            )
        self._name, self._size = _image_input(path, self._session.get_inputs())

    def __call__(self, image: Pixels) -> Float64[np.ndarray, "people 5"]:
        """Find people, best first: x, y, width, height in pixels, inside the image; score."""
        feed = {self._name: prepare_image(image, self._size)}
        logits, boxes = self._session.run(["logits", "pred_boxes"], feed)
        return select_people(logits[0], boxes[0], image.shape[1::-1], self._threshold)


def prepare_image(image: Pixels, size: tuple[int, int]) -> Float32[np.ndarray, "1 3 rows columns"]:
    """Stretch an image to (height, width) = size, with values in [0, 1].

    The aspect ratio is not kept, as in D-FINE's training.
    """
    resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None], dtype=np.float32) / 255


def select_people(
    logits: Float[np.ndarray, "queries classes"],
    boxes: Float[np.ndarray, "queries 4"],
    image_wh: tuple[int, int],
    threshold: float,
) -> Float64[np.ndarray, "people 5"]:
    """Turn raw outputs into people, best first: x, y, width, height in pixels, score.

    Args:
        logits: before the sigmoid.
        boxes: x and y of the centre, width, height, relative to the image.
        image_wh: (width, height) in pixels; people are clipped to it.
        threshold: lowest score.
    """
    if logits.shape[-1] not in PERSON_CLASS:
        raise UserError(
            f"the detector has {logits.shape[-1]} classes; only COCO's 80 or 91, or people "
            "alone, are supported"
        )
    person = PERSON_CLASS[logits.shape[-1]]
    scores = 1 / (1 + np.exp(-logits[:, person].astype(np.float64)))
    kept = (logits.argmax(-1) == person) & (scores >= threshold)
    order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind="stable")]
    wh = np.array(image_wh, np.float64)
    centre, size = boxes[order, :2] * wh, boxes[order, 2:] * wh
    low, high = np.clip(centre - size / 2, 0, wh), np.clip(centre + size / 2, 0, wh)
    found = np.column_stack([low, high - low, scores[order]])
    return found[(found[:, 2:4] > 1).all(-1)]


def _image_input(path: str, inputs: Sequence[Any]) -> tuple[str, tuple[int, int]]:
    """Name and (height, width) of a detector's only input, (1, 3, height, width) in float32.

    For a network that takes images of any size, this is the size that D-FINE was trained at.
    """
    shape = inputs[0].shape if len(inputs) == 1 else []
    free = [not isinstance(side, int) for side in shape]  # a free side is a name, or None
    fits = len(shape) == 4 and (free[0] or shape[0] == 1) and (free[1] or shape[1] == 3)
    if not fits or inputs[0].type != "tensor(float)":
        found = "; ".join(f"{i.name}, {i.type} of shape {i.shape}" for i in inputs) or "nothing"
        raise UserError(
            f"{path}: a detector must take one float32 image (1, 3, height, width), this one takes "
            f"{found}; export it so, without further inputs"
        )
    return inputs[0].name, (640, 640) if any(free[2:]) else tuple(shape[2:])


def _find_model(model: str) -> str:
    if model.endswith(".onnx"):
        if not Path(model).is_file():
            raise UserError(f"{model}: no such file")
        return model
    detector = published_detector(model)
    try:
        return str(fetch(detector) / detector.files[0])
    except UserError as error:
        raise UserError(f"{error}; {OTHER_WAYS}") from None
