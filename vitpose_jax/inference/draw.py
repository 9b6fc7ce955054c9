"""Pictures of poses: the person's left in blue, their right in orange, the middle in white."""

from collections.abc import Sequence

import cv2
import numpy as np

from vitpose_jax.inference.person import Person
from vitpose_jax.keypoints.crops import box_to_center_scale, udp_affine
from vitpose_jax.keypoints.skeletons import Skeleton

# RGB; told apart by every kind of colour vision (after Okabe and Ito's palette).
SIDE_COLOURS = {"left": (60, 170, 255), "right": (255, 140, 0), "centre": (245, 245, 245)}
BOX_COLOUR = (235, 235, 235)
TRACK_COLOURS = (
    *((86, 180, 233), (230, 159, 0), (0, 200, 140), (240, 228, 66)),
    *((204, 121, 167), (213, 94, 0), (150, 130, 255), (160, 220, 90)),
)
EDGE = (25, 25, 25)
FINE = 4  # bits below the pixel in OpenCV's drawing calls


def draw_people(
    image: np.ndarray,
    people: Sequence[Person],
    skeleton: Skeleton,
    min_score: float = 0.3,
    boxes: bool = True,
    legend: bool = True,
) -> np.ndarray:
    """Draw skeletons, lines as thick as suits each person's size.

    Args:
        image: uint8 (height, width, 3), RGB.
        people: whom to draw.
        skeleton: their keypoints.
        min_score: keypoints with a lower score are left out.
        boxes: draw boxes, with score and track number.
        legend: say in a corner which colour is which side.

    Returns:
        a new uint8 (height, width, 3).
    """
    canvas = np.ascontiguousarray(image).copy()
    # People further back (smaller) first, so that nobody in front is drawn over.
    for person in sorted(people, key=_size):
        if boxes:
            _draw_box(canvas, person)
        draw_pose(canvas, person.keypoints, person.keypoint_scores >= min_score, skeleton)
    if legend and people:
        _draw_legend(canvas)
    return canvas


def draw_pose(
    canvas: np.ndarray,
    keypoints: np.ndarray,
    shown: np.ndarray,
    skeleton: Skeleton,
    colour: tuple[int, int, int] | None = None,
) -> None:
    """Draw one skeleton into `canvas`.

    Args:
        canvas: uint8 (height, width, 3), RGB, changed in place.
        keypoints: (K, 2), canvas pixels.
        shown: bool (K,), which keypoints to draw.
        skeleton: names and limbs.
        colour: for all of it, instead of the sides' colours.
    """
    limit = 4.0 * max(canvas.shape)  # further out, OpenCV's fixed-point coordinates overflow
    shown = shown & np.isfinite(keypoints).all(-1) & (np.abs(keypoints) < limit).all(-1)
    if not shown.any():
        return
    spread = np.ptp(keypoints[shown], axis=0)
    width = float(np.clip(np.hypot(*spread) / 80, 1.0, max(canvas.shape) / 100))
    if skeleton.num_keypoints > 100:  # fingers and faces: many short limbs
        width *= 0.6
    sides = [skeleton.side(k) for k in range(skeleton.num_keypoints)]
    lines = [(a, b) for a, b in skeleton.limbs if shown[a] and shown[b]]
    for thickness, edge in ((width * 2.2, True), (width * 1.4, False)):
        for a, b in lines:
            tint = EDGE if edge else colour or SIDE_COLOURS[_limb_side(sides[a], sides[b])]
            _line(canvas, keypoints[a], keypoints[b], tint, thickness)
    for k in np.flatnonzero(shown):
        fill = colour or SIDE_COLOURS[sides[k]]
        small = 0.5 if k >= 23 and skeleton.num_keypoints > 100 else 1.0
        _disc(canvas, keypoints[k], width * 1.6 * small, EDGE)
        _disc(canvas, keypoints[k], width * 1.1 * small, fill)


def overlay_heatmaps(
    image: np.ndarray, people: Sequence[Person], input_size: tuple[int, int]
) -> np.ndarray:
    """Lay the heatmaps of all people's keypoints over a darkened, grey image.

    Args:
        image: uint8 (height, width, 3), RGB.
        people: with `heatmaps`; those without are skipped.
        input_size: (height, width) of the network's crops.

    Returns:
        a new uint8 (height, width, 3).
    """
    height, width = image.shape[:2]
    heat = np.zeros((height, width), np.float32)
    for person in people:
        if person.heatmaps is None or person.score <= 0:
            continue
        best = np.ascontiguousarray(person.heatmaps.max(axis=-1), dtype=np.float32)
        center, scale = box_to_center_scale(person.box, input_size)
        matrix = udp_affine(center, scale, 0.0, best.shape)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        heat = np.maximum(heat, cv2.warpAffine(best, matrix, (width, height), flags=flags))
    heat = np.clip(heat, 0, 1)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    grey = 0.55 * image.mean(axis=2, keepdims=True)
    alpha = np.sqrt(heat)[:, :, None]
    return (grey * (1 - alpha) + colours * alpha).astype(np.uint8)


def _limb_side(a: str, b: str) -> str:
    """The side that a limb between two keypoints shows: centre where it joins left and right."""
    sides = {a, b} - {"centre"}
    return sides.pop() if len(sides) == 1 else "centre"


def _size(person: Person) -> float:
    return float(np.nan_to_num(np.prod(person.box[2:])))


def _draw_box(canvas: np.ndarray, person: Person) -> None:
    if not np.isfinite(person.box).all():
        return
    colour = BOX_COLOUR
    if person.track is not None:
        colour = TRACK_COLOURS[(person.track - 1) % len(TRACK_COLOURS)]
    limit = 4.0 * max(canvas.shape)
    low = np.clip(person.box[:2], -limit, limit)
    high = np.clip(person.box[:2] + person.box[2:], -limit, limit)
    thickness = max(1, round(min(canvas.shape[:2]) / 450))
    low_fixed, high_fixed = (tuple(int(v) for v in np.round(p * 2**FINE)) for p in (low, high))
    cv2.rectangle(canvas, low_fixed, high_fixed, colour, thickness, cv2.LINE_AA, FINE)
    label = f"{person.score:.2f}"
    if person.track is not None:
        label = f"{person.track}  {label}"
    _draw_label(canvas, label, low, colour)


def _draw_label(
    canvas: np.ndarray, text: str, corner: np.ndarray, colour: tuple[int, int, int]
) -> int:
    """Text on a plate of the given colour that stands on `corner`; the plate's height."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, float(np.clip(min(canvas.shape[:2]) / 1100, 0.36, 2.0))
    (text_width, text_height), base = cv2.getTextSize(text, font, size, 1)
    pad = max(2, text_height // 4)
    width, height = text_width + 2 * pad, text_height + base + pad
    left = int(np.clip(corner[0], 0, max(0, canvas.shape[1] - width)))
    top = int(np.clip(corner[1] - height, 0, max(0, canvas.shape[0] - height)))
    cv2.rectangle(canvas, (left, top), (left + width, top + height), colour, cv2.FILLED)
    origin = (left + pad, top + text_height + pad)
    cv2.putText(canvas, text, origin, font, size, EDGE, max(1, round(size)), cv2.LINE_AA)
    return height


def _draw_legend(canvas: np.ndarray) -> None:
    if min(canvas.shape[:2]) < 120:
        return
    margin = min(canvas.shape[:2]) // 60
    corner = np.array([margin, canvas.shape[0] - margin])
    for side in ("right", "left"):
        corner[1] -= _draw_label(canvas, f"{side} side", corner, SIDE_COLOURS[side]) + 2


def _line(
    canvas: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    colour: tuple[int, int, int],
    thickness: float,
) -> None:
    ends = [tuple(int(v) for v in np.round(p * 2**FINE)) for p in (a, b)]
    cv2.line(canvas, *ends, colour, max(1, round(thickness)), cv2.LINE_AA, FINE)


def _disc(
    canvas: np.ndarray, centre: np.ndarray, radius: float, colour: tuple[int, int, int]
) -> None:
    x, y = (int(v) for v in np.round(centre * 2**FINE))
    cv2.circle(canvas, (x, y), round(radius * 2**FINE), colour, cv2.FILLED, cv2.LINE_AA, FINE)
