"""Drawing people on images: boxes, skeletons, heatmaps and forecasts."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import Pixels
from vitpose_jax.inference.person import Person
from vitpose_jax.keypoints.crops import PIXEL_STD, box_to_center_scale, udp_affine
from vitpose_jax.keypoints.drawing import (
    EDGE_COLOUR,
    FRACTION_BITS,
    SIDE_COLOURS,
    Colour,
    coordinate_limit,
    draw_skeleton,
    fixed_point,
    line_width,
)
from vitpose_jax.keypoints.skeletons import Skeleton

_STRIP = 2**20  # pixels worked on at a time

BOX_COLOUR = (235, 235, 235)
TRACK_COLOURS = (
    *((230, 60, 200), (0, 200, 140), (240, 228, 66), (150, 60, 210)),
    *((160, 220, 90), (255, 105, 150), (110, 100, 70), (200, 170, 220)),
)
"""Of people and their forecasts; none is like one of a skeleton's sides."""
HALO = 0.25  # opacity


def draw_people(
    image: Pixels,
    people: Sequence[Person],
    skeleton: Skeleton | None = None,
    min_score: float = 0.3,
    boxes: bool = True,
    legend: bool = True,
    names: bool = False,
) -> Pixels:
    """Draw people's skeletons, smaller people first so that they do not cover those in front.

    Args:
        image, people: the image, and the people on it.
        skeleton: their skeleton; by default the people's own.
        min_score: keypoints with a lower score are left out; up to twice that score they are faded.
        boxes: draw boxes, with score and track number.
        legend: show in a corner which colour is which side.
        names: write the keypoints' names beside them.

    Raises:
        UserError: the people have no skeleton, and none is given.

    Example:
        >>> estimator = PoseEstimator.from_pretrained("weights/vitpose-b")
        >>> image = load_image("people.jpg")
        >>> drawn = draw_people(image, estimator(image), names=True)
        >>> drawn.shape == image.shape
        True
    """
    canvas = np.ascontiguousarray(image).copy()
    for person in sorted(people, key=lambda person: np.nan_to_num(np.prod(person.box[2:]))):
        known = skeleton or person.skeleton
        if known is None:
            raise UserError("these people have no skeleton: give skeleton=, such as SKELETONS[...]")
        if boxes:
            _draw_box(canvas, person)
        opacity = score_opacity(person.keypoint_scores, min_score)
        draw_skeleton(canvas, person.keypoints, opacity, known)
        if names:
            _draw_names(canvas, person.keypoints, opacity, known)
    if legend and people:
        _draw_legend(canvas)
    return canvas


def score_opacity(
    scores: Float[np.ndarray, " keypoints"], min_score: float
) -> Float[np.ndarray, " keypoints"]:
    """How opaque keypoints are drawn: solid from twice `min_score`, a quarter at it, 0 below."""
    shown = scores >= min_score
    if min_score <= 0:
        return shown.astype(float)
    return np.where(shown, np.clip((scores - min_score) / min_score, 0.25, 1), 0.0)


def draw_ghosts(
    image: Pixels,
    poses: Float[np.ndarray, "steps joints 2"],
    skeleton: Skeleton,
    track: int,
    radii: Float[np.ndarray, " joints"] | None = None,
) -> Pixels:
    """Draw a person's future poses in their track's colour, fading with time.

    Where `radii` are given (pixels), a halo shows how far the last pose's joints may be off.
    """
    colour, canvas = track_colour(track), image
    if radii is not None:
        layer, limit = canvas.copy(), coordinate_limit(canvas)
        for point, radius in zip(poses[-1], radii, strict=True):
            if np.isfinite([*point, radius]).all() and max(*np.abs(point), radius) < limit:
                size = round(float(radius) * 2**FRACTION_BITS)
                cv2.circle(
                    layer, fixed_point(point), size, colour, cv2.FILLED, cv2.LINE_AA, FRACTION_BITS
                )
        canvas = cv2.addWeighted(layer, HALO, canvas, 1 - HALO, 0)
    for step in reversed(range(len(poses))):
        layer = canvas.copy()
        shown = np.ones(len(poses[step]), bool)
        draw_skeleton(layer, poses[step], shown, skeleton, colour)
        alpha = 0.65 * (1 - step / len(poses)) + 0.1
        canvas = cv2.addWeighted(layer, alpha, canvas, 1 - alpha, 0)
    return canvas


def overlay_heatmaps(
    image: Pixels, people: Sequence[Person], input_size: tuple[int, int]
) -> Pixels:
    """Overlay people's heatmaps, if they have any, on a darkened, grey image.

    `input_size` is the (height, width) of the network's crops.
    """
    drawn = np.empty_like(image)
    rows = max(1, _STRIP // image.shape[1])
    for top in range(0, len(image), rows):
        strip = slice(top, top + rows)
        drawn[strip] = _overlay(image[strip], top, people, input_size)
    return drawn


def _overlay(
    image: Pixels, top: int, people: Sequence[Person], input_size: tuple[int, int]
) -> Pixels:
    """As `overlay_heatmaps`, for the rows of the whole image from `top` on."""
    height, width = image.shape[:2]
    heat = np.zeros((height, width), np.float32)
    for person in people:
        if person.heatmaps is None or person.score <= 0:
            continue
        center, scale = box_to_center_scale(person.box, input_size)
        # The region is as high as that; interpolation reaches a little further.
        if abs(center[1] - top - height / 2) > scale[1] * PIXEL_STD + height / 2:
            continue
        best = np.ascontiguousarray(person.heatmaps.max(axis=-1), dtype=np.float32)
        matrix = udp_affine(center, scale, 0.0, best.shape)
        matrix[:, 2] += matrix[:, 1] * top
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        heat = np.maximum(heat, cv2.warpAffine(best, matrix, (width, height), flags=flags))
    heat = np.clip(heat, 0, 1)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    grey = 0.55 * image.mean(axis=2, keepdims=True)
    alpha = np.sqrt(heat)[:, :, None]
    return (grey * (1 - alpha) + colours * alpha).astype(np.uint8)


def track_colour(track: int) -> Colour:
    """The colour of a track number, from 1; colours repeat."""
    return TRACK_COLOURS[(track - 1) % len(TRACK_COLOURS)]


def _draw_box(canvas: Pixels, person: Person) -> None:
    if not np.isfinite(person.box).all():
        return
    colour = BOX_COLOUR if person.track is None else track_colour(person.track)
    limit = coordinate_limit(canvas)
    low = np.clip(person.box[:2], -limit, limit)
    high = np.clip(person.box[:2] + person.box[2:], -limit, limit)
    thickness = max(1, round(min(canvas.shape[:2]) / 450))
    corners = fixed_point(low), fixed_point(high)
    cv2.rectangle(canvas, *corners, colour, thickness, cv2.LINE_AA, FRACTION_BITS)
    number = "" if person.track is None else f"{person.track}  "
    _draw_label(canvas, f"{number}{person.score:.2f}", low, colour)


def _draw_names(
    canvas: Pixels, keypoints: np.ndarray, opacity: np.ndarray, skeleton: Skeleton
) -> None:
    """Write the names of the keypoints drawn, each on the side away from the person's middle."""
    size = float(np.clip(min(canvas.shape[:2]) / 1300, 0.36, 1.2))
    limit = coordinate_limit(canvas)
    shown = (opacity > 0) & (np.abs(keypoints) < limit).all(-1)
    if not shown.any():
        return
    gap, middle = 3 * line_width(canvas, keypoints[shown]), np.median(keypoints[shown, 0])
    for index in np.flatnonzero(shown):
        name, (x, y) = skeleton.keypoint_names[index], keypoints[index]
        (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        left = x + gap if x >= middle else x - gap - width
        origin = round(float(left)), round(float(y) + height / 2)
        for tint, thickness in ((EDGE_COLOUR, 3), (BOX_COLOUR, 1)):
            arguments = cv2.FONT_HERSHEY_SIMPLEX, size, tint, thickness, cv2.LINE_AA
            cv2.putText(canvas, name, origin, *arguments)


def _draw_label(canvas: Pixels, text: str, corner: np.ndarray, colour: Colour) -> int:
    """Write text on a plate whose lower left corner is `corner`; return the plate's height."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, float(np.clip(min(canvas.shape[:2]) / 1100, 0.36, 2.0))
    (text_width, text_height), base = cv2.getTextSize(text, font, size, 1)
    pad = max(2, text_height // 4)
    width, height = text_width + 2 * pad, text_height + base + pad
    left = int(np.clip(corner[0], 0, max(0, canvas.shape[1] - width)))
    top = int(np.clip(corner[1] - height, 0, max(0, canvas.shape[0] - height)))
    cv2.rectangle(canvas, (left, top), (left + width, top + height), colour, cv2.FILLED)
    origin = (left + pad, top + text_height + pad)
    cv2.putText(canvas, text, origin, font, size, EDGE_COLOUR, max(1, round(size)), cv2.LINE_AA)
    return height


def _draw_legend(canvas: Pixels) -> None:
    if min(canvas.shape[:2]) < 120:
        return
    margin = min(canvas.shape[:2]) // 60
    corner = np.array([margin, canvas.shape[0] - margin])
    for side in ("right", "left"):
        corner[1] -= _draw_label(canvas, f"{side} side", corner, SIDE_COLOURS[side]) + 2
