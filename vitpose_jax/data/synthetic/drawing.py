"""Drawing a posed body with OpenCV: shaded limbs, clothes, hair, and the face if it is visible.

Parts are painted from far to near, in colour and with the same outlines into a buffer of part
numbers, which shows afterwards what hides what.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from vitpose_jax.data.synthetic import visibility as parts
from vitpose_jax.data.synthetic.body import HEAD_RADIUS, BodyShape, PosedBody
from vitpose_jax.data.synthetic.canvas import CIRCLE, STRIPS, Canvas, Projection

_SKIN = np.array(
    [
        *((62, 84, 141), (88, 120, 178), (108, 150, 206), (130, 170, 224), (150, 185, 235)),
        *((40, 58, 98), (30, 42, 72), (120, 158, 200)),
    ],
    np.float64,
)
_HAIR = np.array(
    [*((20, 20, 22), (30, 42, 62), (40, 70, 110), (90, 150, 190), (150, 150, 155), (35, 55, 130))],
    np.float64,
)


@dataclass(frozen=True)
class Looks:
    """Colours (blue, green, red) and clothes of one person.

    Attributes:
        skin, hair, top, bottom, shoes: (3,).
        accent: (3,), of the top's pattern.
        sleeves, legs: how much of the limb is covered, 0 to 2 (1: to the elbow or knee).
        long_hair: whether the hair falls to the shoulders.
        bald: whether there is hardly any hair.
        pattern: of the top: 0 plain, 1 stripes across, 2 stripes along, 3 dots.
    """

    skin: np.ndarray
    hair: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    shoes: np.ndarray
    accent: np.ndarray
    sleeves: float
    legs: float
    long_hair: bool
    bald: bool
    pattern: int

    @staticmethod
    def draw(rng: np.random.Generator) -> "Looks":
        """Draw a person's looks at random."""
        colours = rng.uniform(15, 245, (4, 3))
        grey = rng.random((4, 1)) < 0.35
        colours = np.where(grey, colours.mean(axis=1, keepdims=True), colours)
        return Looks(
            skin=np.clip(_SKIN[rng.integers(len(_SKIN))] + rng.normal(0, 8, 3), 10, 250),
            hair=np.clip(_HAIR[rng.integers(len(_HAIR))] + rng.normal(0, 8, 3), 5, 250),
            top=colours[0],
            bottom=colours[1],
            shoes=colours[2],
            accent=colours[3],
            sleeves=float(rng.choice([0.0, 0.5, 2.0], p=[0.15, 0.4, 0.45])),
            legs=float(rng.choice([0.35, 0.9, 2.0], p=[0.2, 0.15, 0.65])),
            long_hair=bool(rng.random() < 0.35),
            bald=bool(rng.random() < 0.08),
            pattern=int(rng.choice(4, p=[0.45, 0.25, 0.15, 0.15])),
        )


@dataclass(frozen=True)
class Figure:
    """A person ready to be drawn: one frame of a body in the camera's frame, and how it looks."""

    body: PosedBody
    shape: BodyShape
    looks: Looks
    project: Projection


def draw_person(canvas: Canvas, person: int, figure: Figure) -> None:
    """Paint a figure over the canvas, as person number `person` (from 0) in the part buffer."""
    _Painter(canvas, person * parts.PARTS + 1, figure).paint()


class _Painter:
    """Paints one person, and holds the measurements that all its parts share."""

    def __init__(self, canvas: Canvas, first_part: int, figure: Figure) -> None:
        self.canvas, self.first_part = canvas, first_part
        self.body, self.shape, self.looks = figure.body, figure.shape, figure.looks
        self.project = figure.project
        self.unit = self.shape.height * self.project.scale  # the body's height in pixels
        self.points = self.project(self.body.joints[0])
        self.hands, self.toes = self.project(self.body.hands[0]), self.project(self.body.toes[0])

    def paint(self) -> None:
        z, looks = self.body.joints[0, :, 2], self.looks
        jobs: list[tuple[float, Callable[[], None]]] = [
            (z[[5, 6, 11, 12]].mean(), self._torso),
            (self.body.head[0, 2], self._head),
        ]

        def add(joint: int, *limb: Any) -> None:
            """Add a limb, with the mean depth of a joint and the next one on its side."""
            jobs.append(((z[joint] + z[joint + 2]) / 2, partial(self._limb, *limb)))

        for s in (0, 1):
            shoulder, elbow, wrist, hip, knee, ankle = self.points[5 + s :: 2]
            hand, toe = self.hands[s], self.toes[s]
            sleeve, lower_sleeve = (looks.sleeves, looks.top), (looks.sleeves - 1, looks.top)
            leg, lower_leg = (looks.legs, looks.bottom), (looks.legs - 1, looks.bottom)
            skin, shoes = looks.skin, looks.shoes
            add(5 + s, (shoulder, elbow), (0.031, 0.022), skin, parts.UPPER_ARM + s, sleeve)
            add(7 + s, (wrist, hand), (0.015, 0.019), skin, parts.HAND + s)
            add(7 + s, (elbow, wrist), (0.022, 0.015), skin, parts.LOWER_ARM + s, lower_sleeve)
            add(11 + s, (hip, knee), (0.047, 0.031), skin, parts.UPPER_LEG + s, leg)
            add(13 + s, (ankle, toe), (0.022, 0.016), shoes, parts.FOOT + s)
            add(13 + s, (knee, ankle), (0.031, 0.02), skin, parts.LOWER_LEG + s, lower_leg)
        for _, job in sorted(jobs, key=lambda job: job[0]):
            job()

    def _limb(
        self,
        ends: tuple[np.ndarray, np.ndarray],
        radii: tuple[float, float],
        colour: np.ndarray,
        part: int,
        cover: tuple[float, np.ndarray] | None = None,
    ) -> None:
        """Paint a shaded limb and the clothes on it.

        Args:
            ends: pixels.
            radii: at the ends, in heights of a body of average girth.
            colour: of the skin.
            part: number within the person.
            cover: the fraction from the first end that is covered, and the cloth's colour.
        """
        a, b = ends
        ra, rb = (radius * self.unit * self.shape.girth for radius in radii)
        pieces = [(a, b, ra, rb, colour)]
        if cover and cover[0] > 0:
            end = min(cover[0], 1.0)
            middle, rm = a + (b - a) * end, ra + (rb - ra) * end
            pieces.append((a, middle, ra * 1.12, rm * 1.12, cover[1]))
            if end == 1.0:
                pieces = pieces[1:]
        for start, stop, r0, r1, tint in pieces:
            self.canvas.limb(start, stop, (r0, r1), tint, self.first_part + part)

    def _torso(self) -> None:
        left, right, right_hip, left_hip = self.points[[5, 6, 12, 11]]
        chest, pelvis = self.project(self.body.chest[0]), self.project(self.body.pelvis[0])
        neck_top = chest + (self.project(self.body.head[0]) - chest) * 0.7
        self._limb((chest, neck_top), (0.028, 0.026), self.looks.skin * 0.85, parts.NECK)
        girth = self.shape.girth
        # Seen from the side, the shoulders coincide, but the trunk still has its depth.
        r_top, r_low = 0.033 * self.unit * girth, 0.05 * self.unit * girth
        thick = 0.062 * self.unit * girth * np.sqrt(1 - self.body.chest_axes[0, 2, 2] ** 2)
        down = pelvis - chest
        side = np.array([down[1], -down[0]]) / (np.hypot(*down) + 1e-6)
        ring = [
            *(p + r_top * CIRCLE for p in (left, right)),
            *(p + r_low * CIRCLE for p in (left_hip, right_hip)),
            *([chest + down * t + side * thick * s] for t in (0.15, 0.9) for s in (-1, 1)),
        ]
        outline = cv2.convexHull(np.concatenate(ring).astype(np.float32))[:, 0]
        centre = outline.mean(axis=0)
        for width, brightness, shift in STRIPS.T:
            moved = centre + (outline - centre) * (0.35 + 0.65 * width)
            moved = moved + self.canvas.light * shift * r_top * 1.2
            number = self.first_part + parts.TORSO if width == 1.0 else None
            tone = np.clip(self.looks.top * (0.3 + 0.7 * brightness), 0, 255)
            self.canvas.polygon(moved, tone, number)
        self._clothes(left, right, left_hip, right_hip)

    def _clothes(
        self, left: np.ndarray, right: np.ndarray, left_hip: np.ndarray, right_hip: np.ndarray
    ) -> None:
        """Paint the top's pattern, the trousers' waist, and a neckline if the chest shows."""
        looks, canvas, width = self.looks, self.canvas, max(1.0, 0.012 * self.unit)
        to_left_hip, to_right_hip = left_hip - left, right_hip - right
        if looks.pattern == 1:
            for t in np.linspace(0.12, 0.82, 6):
                canvas.line(left + to_left_hip * t, right + to_right_hip * t, looks.accent, width)
        elif looks.pattern == 2:
            for t in np.linspace(0.1, 0.9, 5):
                top, bottom = left + (right - left) * t, left_hip + (right_hip - left_hip) * t
                canvas.line(top, bottom, looks.accent, width)
        elif looks.pattern == 3:
            for t in np.linspace(0.15, 0.85, 4):
                for s in np.linspace(0.1, 0.9, 4):
                    top, bottom = left + (right - left) * s, left_hip + (right_hip - left_hip) * s
                    canvas.polygon(top + (bottom - top) * t + CIRCLE * width, looks.accent)
        hips = 0.042 * self.unit * self.shape.girth
        canvas.limb(left_hip, right_hip, (hips, hips), looks.bottom)
        if self.body.chest_axes[0, 2, 2] > 0.2:
            neckline = (left + right) / 2
            down = ((left_hip + right_hip) / 2 - neckline) * 0.16
            across = (right - left) * 0.14
            corners = np.stack([neckline - across, neckline + across, neckline + down])
            canvas.polygon(corners, looks.skin * 0.92)
            if looks.pattern == 0:
                canvas.line(neckline + down, neckline + down * 5.2, looks.top * 0.55, width)

    def _head(self) -> None:
        looks, unit = self.looks, self.unit
        radius = HEAD_RADIUS * self.shape.head * unit
        left, up, forward = self.body.head_axes[0].T
        up2, forward2 = up[:2] * (1, -1), forward[:2] * (1, -1)
        centre = self.project(self.body.head[0])
        number = self.first_part + parts.HEAD
        hair = looks.skin * 0.9 if looks.bald else looks.hair
        if looks.long_hair and not looks.bald:
            back = centre - up2 * radius * 0.75 - forward2 * radius * 0.3
            self.canvas.polygon(back + CIRCLE * radius * (1.0, 1.25), hair * 0.75, number)
        long_axis = up2 / (np.hypot(*up2) + 1e-6)
        self._egg(centre, long_axis, radius * 1.2, radius * 1.02, hair * 0.8, number)
        crown = centre + (up2 * 0.25 + self.canvas.light * 0.2) * radius
        self._egg(crown, long_axis, radius * 0.75, radius * 0.7, np.clip(hair * 1.15, 0, 255))
        for sign, point in ((1, self.points[3]), (-1, self.points[4])):
            if sign * left[2] > -0.25 and (not looks.long_hair or looks.bald):
                self._egg(point, long_axis, radius * 0.3, radius * 0.18, looks.skin * 0.85, number)
        if forward[2] > -0.45:
            self._face(centre, radius)

    def _egg(
        self,
        centre: np.ndarray,
        axis: np.ndarray,
        long: float,
        short: float,
        colour: np.ndarray,
        part: int | None = None,
    ) -> None:
        """Paint an ellipse with half axes `long` (along `axis`) and `short`."""
        across = np.array([-axis[1], axis[0]])
        outline = centre + CIRCLE[:, :1] * axis * long + CIRCLE[:, 1:] * across * short
        self.canvas.polygon(outline, colour, part)

    def _face(self, centre: np.ndarray, radius: float) -> None:
        """Paint the part of the head's ball around the face; it narrows as the head turns away."""
        skin, canvas = self.looks.skin, self.canvas
        left, up, forward = self.body.head_axes[0].T
        up2, forward2 = up[:2] * (1, -1), forward[:2] * (1, -1)
        turned = np.hypot(*forward2)
        axis = forward2 / turned if turned > 1e-3 else np.array([0.0, 1.0])
        open_ = np.clip((forward[2] + 0.45) / 1.45, 0.02, 1)
        middle = centre + (forward2 * 0.42 - up2 * 0.26 * (1 - 0.4 * turned)) * radius
        long, number = radius * (0.3 + 0.62 * open_), self.first_part + parts.HEAD
        self._egg(middle, axis, long, radius * 0.9, skin * 0.88, number)
        lit = middle + self.canvas.light * radius * 0.12
        bright = np.clip(skin * 1.05, 0, 255)
        self._egg(lit, axis, radius * (0.2 + 0.5 * open_), radius * 0.68, bright)
        for eye, sign in ((1, 1), (2, -1)):
            if 0.88 * forward[2] + 0.38 * sign * left[2] > 0.12:
                point = self.points[eye]
                canvas.polygon(point + CIRCLE * radius * (0.17, 0.12), np.full(3, 235))
                canvas.polygon(point + CIRCLE * radius * 0.09, skin * 0.35 * 0.4)
                brow = up2 * radius * 0.26
                tilt = np.array([radius * 0.2, 0])
                canvas.line(
                    point + brow - tilt, point + brow + tilt, self.looks.hair * 0.8, 0.1 * radius
                )
        if forward[2] > -0.1:
            bridge = centre + (forward2 * 0.95 + up2 * 0.08) * radius
            canvas.line(bridge, self.points[0], skin * 0.65, 0.16 * radius)
            mouth = centre + (forward2 * 0.92 - up2 * 0.5) * radius
            half = left[:2] * (1, -1) * radius * 0.28
            canvas.line(mouth - half, mouth + half, np.array([60, 50, 130]), 0.13 * radius)
