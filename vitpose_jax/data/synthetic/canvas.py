"""What synthetic people are painted with: an image, a buffer of part numbers, and a camera."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

_BITS = 4  # OpenCV takes corners in 1/16 pixel
_FIXED_POINT = 1 << _BITS

_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)
CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=-1)
_HALF_TURN = np.linspace(np.pi / 2, 3 * np.pi / 2, 9)
_HALF_CIRCLE = np.stack([np.cos(_HALF_TURN), np.sin(_HALF_TURN)], axis=-1)

# Strips of a shaded limb, from bottom to top: width, brightness, and shift towards the light.
STRIPS = np.array([[1.0, 0.78, 0.52, 0.22], [0.66, 0.86, 1.0, 1.12], [0.0, 0.13, 0.24, 0.34]])
_WIDTH, _BRIGHTNESS, _SHIFT = STRIPS


@dataclass(frozen=True)
class Canvas:
    """An image being painted.

    Attributes:
        colours: uint8 (h, w, 3), blue, green, red.
        parts: uint8 (h, w), part numbers.
        light: (2,), direction in the image from which light comes, length at most 1.
    """

    colours: np.ndarray
    parts: np.ndarray
    light: np.ndarray

    def polygon(self, corners: np.ndarray, colour: np.ndarray, part: int | None = None) -> None:
        """Fill a convex polygon (n, 2), in pixels; without a part, paint only colours."""
        self._fill((corners * _FIXED_POINT).astype(np.int32), [float(c) for c in colour], part)

    def _fill(self, corners: np.ndarray, colour: list[float], part: int | None) -> None:
        cv2.fillConvexPoly(self.colours, corners, colour, cv2.LINE_AA, _BITS)
        if part is not None:
            cv2.fillConvexPoly(self.parts, corners, part, cv2.LINE_8, _BITS)

    def limb(
        self,
        a: np.ndarray,
        b: np.ndarray,
        radii: tuple[float, float],
        colour: np.ndarray,
        part: int | None = None,
    ) -> None:
        """Paint a round limb from a to b, shaded in strips that move towards the light."""
        ra, rb = radii
        (ax, ay), (bx, by) = a, b
        length = math.hypot(bx - ax, by - ay) + 1e-6
        across = np.array([(by - ay) / length, (ax - bx) / length])
        moved = across * (across @ self.light) * _SHIFT[:, None]
        widths = _WIDTH[:, None, None]
        arc = _HALF_CIRCLE @ np.array([-across[::-1] * (1, -1), across]) * widths
        start = arc * ra + (a + moved * ra)[:, None]
        end = (b + moved * rb)[:, None] - arc * rb
        outlines = (np.concatenate([start, end], axis=1) * _FIXED_POINT).astype(np.int32)
        tones = np.minimum(np.multiply.outer(_BRIGHTNESS, colour), 255).tolist()
        self._fill(outlines[0], tones[0], part)
        for outline, tone in zip(outlines[1:], tones[1:], strict=True):
            cv2.fillConvexPoly(self.colours, outline, tone, cv2.LINE_AA, _BITS)

    def line(self, start: np.ndarray, end: np.ndarray, colour: np.ndarray, width: float) -> None:
        """Draw a line, in colours only."""
        a, b = (np.round(p * _FIXED_POINT).astype(int).tolist() for p in (start, end))
        shade = [float(c) for c in colour]
        cv2.line(self.colours, a, b, shade, max(1, round(width)), cv2.LINE_AA, _BITS)


@dataclass(frozen=True)
class Projection:
    """A camera on the z axis that looks at the body's pelvis.

    Attributes:
        position: (2,), the pelvis on the image.
        scale: pixels per metre at the pelvis.
        distance: metres from the camera to the pelvis.
    """

    position: np.ndarray
    scale: float
    distance: float

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Image positions (..., 2) of points (..., 3)."""
        magnified = self.scale * self.distance / (self.distance - points[..., 2:])
        return self.position + points[..., :2] * magnified * (1, -1)
