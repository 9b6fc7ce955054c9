"""Drawing one skeleton: the person's left in blue, their right in orange, the middle in white."""

from collections.abc import Sequence

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


FADES = (0.25, 0.5, 0.75)
"""Opacities below 1 are drawn as the nearest of these."""


def draw_skeleton(
    canvas: Pixels,
    keypoints: Float[np.ndarray, "keypoints 2"],
    opacity: Bool[np.ndarray, " keypoints"] | Float[np.ndarray, " keypoints"],
    skeleton: Skeleton,
    colour: Colour | None = None,
) -> None:
    """Draw a skeleton into `canvas`, with line widths that suit its size.

    Args:
        canvas: changed in place.
        keypoints: canvas pixels.
        opacity: of each keypoint: 1 (or True) for solid ones, 0 (or False) for those left out. A
            limb is as opaque as the fainter of its ends.
        skeleton: names and limbs.
        colour: one colour for the whole skeleton, instead of one per side.
    """
    limit = coordinate_limit(canvas)
    drawable = np.isfinite(keypoints).all(-1) & (np.abs(keypoints) < limit).all(-1)
    opacity = np.where(drawable, opacity.astype(float), 0)
    shown = opacity > 0
    if not shown.any():
        return
    width = line_width(canvas, keypoints[shown])
    width *= 0.6 if skeleton.num_keypoints > DENSE else 1.0
    nearest = np.abs(np.subtract.outer(opacity, FADES)).argmin(-1)
    level = np.where(opacity >= 1, 1.0, np.array(FADES)[nearest]) * shown
    for alpha in (*FADES, 1.0):
        points = np.flatnonzero(level == alpha)
        limbs = [(a, b) for a, b in skeleton.limbs if min(level[a], level[b]) == alpha]
        if len(points) or limbs:
            _draw_part(canvas, keypoints, points, limbs, skeleton, width, alpha, colour)


def line_width(canvas: Pixels, keypoints: Float[np.ndarray, "keypoints 2"]) -> float:
    """The width in pixels of a skeleton's lines, from the extent of its keypoints (at least 1)."""
    spread = np.hypot(*np.ptp(keypoints, axis=0))
    return float(np.clip(spread / 80, 1.0, max(canvas.shape) / 100))


def _draw_part(
    canvas: Pixels,
    keypoints: np.ndarray,
    points: np.ndarray,
    limbs: Sequence[tuple[int, int]],
    skeleton: Skeleton,
    width: float,
    alpha: float,
    colour: Colour | None,
) -> None:
    """Draw some keypoints and limbs, blended with what is below them if `alpha` is not 1."""
    used = keypoints[[*points, *(end for limb in limbs for end in limb)]]
    margin = 3 * width + 2
    left, top = np.clip(used.min(0) - margin, 0, None).astype(int)
    right, bottom = np.clip(used.max(0) + margin, 0, None).astype(int) + 1
    part = canvas[top:bottom, left:right]
    if not part.size:
        return
    layer = canvas if alpha == 1 else part.copy()
    shifted = keypoints if alpha == 1 else keypoints - [left, top]
    sides = [skeleton.side(k) for k in range(skeleton.num_keypoints)]
    for thickness, is_edge in ((width * 2.2, True), (width * 1.4, False)):
        for a, b in limbs:
            tint = EDGE_COLOUR if is_edge else colour or _limb_colour(sides[a], sides[b])
            ends = fixed_point(shifted[a]), fixed_point(shifted[b])
            cv2.line(layer, *ends, tint, max(1, round(thickness)), cv2.LINE_AA, FRACTION_BITS)
    for k in points:
        small = skeleton.num_keypoints > DENSE and k >= BODY_KEYPOINTS
        radius = width * (0.5 if small else 1.0)
        _draw_disc(layer, shifted[k], radius * 1.6, EDGE_COLOUR)
        _draw_disc(layer, shifted[k], radius * 1.1, colour or SIDE_COLOURS[sides[k]])
    if alpha != 1:
        part[:] = cv2.addWeighted(layer, alpha, part, 1 - alpha, 0)


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
