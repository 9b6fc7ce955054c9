"""Drawing one skeleton: the person's left in blue, their right in orange, the middle in white."""

import cv2
import numpy as np
from jaxtyping import Bool, Float

from vitpose_jax.files.pictures import Pixels
from vitpose_jax.keypoints.skeletons import Skeleton

Colour = tuple[int, int, int]
"""RGB."""

SIDE_COLOURS: dict[str, Colour] = {
    "left": (60, 170, 255),
    "right": (255, 140, 0),
    "centre": (245, 245, 245),
}
"""Distinct for every kind of colour vision (after Okabe and Ito's palette)."""

EDGE_COLOUR = (25, 25, 25)
FRACTION_BITS = 4
"""OpenCV takes coordinates as fixed-point numbers with this many fractional bits."""

DENSE = 100
"""Skeletons with more keypoints have fingers and faces: many short limbs, drawn thinner."""
BODY_KEYPOINTS = 23
"""Body and feet come first in dense skeletons; the keypoints after them are drawn smaller."""


def draw_skeleton(
    canvas: Pixels,
    keypoints: Float[np.ndarray, "keypoints 2"],
    shown: Bool[np.ndarray, " keypoints"],
    skeleton: Skeleton,
    colour: Colour | None = None,
) -> None:
    """Draw a skeleton into `canvas`, with line widths that suit its size.

    Args:
        canvas: changed in place.
        keypoints: canvas pixels.
        shown: which keypoints to draw.
        skeleton: names and limbs.
        colour: one colour for the whole skeleton, instead of one per side.
    """
    limit = coordinate_limit(canvas)
    shown = shown & np.isfinite(keypoints).all(-1) & (np.abs(keypoints) < limit).all(-1)
    if not shown.any():
        return
    dense = skeleton.num_keypoints > DENSE
    spread = np.ptp(keypoints[shown], axis=0)
    width = float(np.clip(np.hypot(*spread) / 80, 1.0, max(canvas.shape) / 100))
    width *= 0.6 if dense else 1.0
    sides = [skeleton.side(k) for k in range(skeleton.num_keypoints)]
    limbs = [(a, b) for a, b in skeleton.limbs if shown[a] and shown[b]]
    for thickness, is_edge in ((width * 2.2, True), (width * 1.4, False)):
        for a, b in limbs:
            tint = EDGE_COLOUR if is_edge else colour or _limb_colour(sides[a], sides[b])
            ends = fixed_point(keypoints[a]), fixed_point(keypoints[b])
            cv2.line(canvas, *ends, tint, max(1, round(thickness)), cv2.LINE_AA, FRACTION_BITS)
    for k in np.flatnonzero(shown):
        radius = width * (0.5 if dense and k >= BODY_KEYPOINTS else 1.0)
        _draw_disc(canvas, keypoints[k], radius * 1.6, EDGE_COLOUR)
        _draw_disc(canvas, keypoints[k], radius * 1.1, colour or SIDE_COLOURS[sides[k]])


def coordinate_limit(canvas: Pixels) -> float:
    """The largest coordinate to draw; far beyond the canvas, OpenCV's integers overflow."""
    return 4.0 * max(canvas.shape)


def fixed_point(xy: np.ndarray) -> tuple[int, int]:
    """A point in OpenCV's fixed-point coordinates."""
    x, y = np.round(xy * 2**FRACTION_BITS)
    return int(x), int(y)


def _limb_colour(a: str, b: str) -> Colour:
    """The colour of a limb between keypoints on two sides; white where it joins left and right."""
    sides = {a, b} - {"centre"}
    return SIDE_COLOURS[sides.pop() if len(sides) == 1 else "centre"]


def _draw_disc(canvas: Pixels, centre: np.ndarray, radius: float, colour: Colour) -> None:
    fixed_radius = round(radius * 2**FRACTION_BITS)
    cv2.circle(
        canvas, fixed_point(centre), fixed_radius, colour, cv2.FILLED, cv2.LINE_AA, FRACTION_BITS
    )
