"""A complete synthetic photograph: cluttered background, people, occluders, annotations."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from vitpose_jax.data.synthetic.body import BodyShape, pose_body, rotation_x
from vitpose_jax.data.synthetic.canvas import CIRCLE, Canvas, Projection
from vitpose_jax.data.synthetic.drawing import Figure, Looks, draw_person
from vitpose_jax.data.synthetic.poses import draw_pose
from vitpose_jax.data.synthetic.visibility import OCCLUDER, PARTS, read_visibility

MIN_VISIBLE = 3
"""People with fewer visible keypoints are drawn but not annotated."""


@dataclass(frozen=True)
class Scene:
    """One rendered image and the P people on it.

    Attributes:
        pixels: uint8 (h, w, 3), red, green, blue.
        keypoints: float32 (P, 17, 2), pixels; 0 where outside the image.
        visible: float32 (P, 17), 0 outside, 1 hidden, 2 visible.
        boxes: float32 (P, 4), extent of the visible part of each person.
        areas: float32 (P,), number of pixels of that part.
        annotated: bool (P,), whether enough of the person is visible.
    """

    pixels: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    annotated: np.ndarray


def render_scene(rng: np.random.Generator, company: str = "some") -> Scene:
    """Draw a scene at random.

    Args:
        rng: decides everything.
        company: "some": one to three separate people, seen from all sides; "crowd": three to six
            people whose boxes overlap; "solo": one person, entirely in the picture and roughly
            facing the camera, with little behind and nothing in front.

    Returns:
        A scene with at least one annotated person.
    """
    while True:
        width, height = (int(side) for side in rng.integers(224, 353, 2))
        light = rng.uniform(-0.7, 0.7, 2)
        things = (0, 5) if company == "solo" else (6, 26)
        canvas = _background(width, height, things, light, rng)
        figures = _place_people(width, height, company, rng)
        for person, figure in enumerate(figures):
            draw_person(canvas, person, figure)
        if company != "solo":
            _things_in_front(canvas, figures, rng)
        scene = _annotate(canvas, figures, rng)
        if scene.annotated.any():
            return scene


def _draw_sizes(company: str, rng: np.random.Generator) -> np.ndarray:
    """Each person's size as a share of the picture, in rising order."""
    if company == "solo":
        return rng.uniform(0.65, 0.9, 1)
    if company == "crowd":
        return np.sort(rng.uniform(0.55, 0.95, int(rng.integers(3, 7))))
    return np.sort(rng.uniform(0.4, 1.05, int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))))


def _place_people(width: int, height: int, company: str, rng: np.random.Generator) -> list[Figure]:
    """Place people, from far to near (small to large)."""
    sizes = _draw_sizes(company, rng)
    centre = rng.uniform(0.3, 0.7) * width
    elevation = rotation_x(rng.normal(6, 9))
    figures = []
    for i, size in enumerate(sizes):
        shape = BodyShape.draw(rng)
        heading = np.array([rng.normal(0, 25) if company == "solo" else rng.uniform(-180, 180)])
        body = pose_body(shape, draw_pose(rng)[None], heading).rotated(elevation)
        span = np.ptp(np.concatenate([body.joints[0], body.toes[0]])[:, :2], axis=0).max()
        scale = size * min(width, height) / max(span, 0.6 * shape.height)
        if company == "crowd":
            x = centre + rng.normal(0, 0.16) * width
            y = rng.normal(0.52, 0.06) * height
        elif i == len(sizes) - 1:  # the nearest is the photograph's subject
            x, y = rng.normal(0.5, 0.12) * width, rng.normal(0.5, 0.09) * height
        else:
            x, y = rng.uniform(0.05, 0.95) * width, rng.normal(0.48, 0.12) * height
        middle = (body.joints[0, :, :2].max(0) + body.joints[0, :, :2].min(0)) / 2
        position = np.array([x, y]) - middle * scale * (1, -1)
        project = Projection(position, float(scale), float(rng.uniform(3.5, 9)))
        figures.append(Figure(body, shape, Looks.draw(rng), project))
    return figures


def _background(
    width: int, height: int, things: tuple[int, int], light: np.ndarray, rng: np.random.Generator
) -> Canvas:
    """Paint soft colours, a floor, and things: boxes, balls, poles and limb-like sticks."""
    cells = int(rng.integers(2, 9))
    base = rng.uniform(30, 225, 3) + rng.normal(0, 30, (cells, cells, 3))
    coarse = np.clip(base, 0, 255).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = Canvas(image, np.zeros((height, width), np.uint8), light)
    if rng.random() < 0.6:
        horizon = rng.uniform(0.45, 0.9) * height
        floor = rng.uniform(10, 245, 3)
        for t in np.linspace(0, 1, 6):
            y = horizon + t * (height - horizon)
            corners = np.array([[0, y], [width, y], [width, height], [0, height]])
            canvas.polygon(corners, floor * (0.75 + 0.25 * t))
    for _ in range(int(rng.integers(*things))):
        _thing(canvas, rng.uniform(0, 1, 2) * (width, height), min(width, height), rng)
    return canvas


def _thing(
    canvas: Canvas,
    where: np.ndarray,
    size: float,
    rng: np.random.Generator,
    part: int | None = None,
) -> None:
    """Paint a box with a shaded edge, a ball, a pole, or a chain of sticks."""
    colour, kind = rng.uniform(10, 245, 3), rng.integers(4)
    turn = rng.uniform(0, np.pi)
    axis = np.array([np.cos(turn), np.sin(turn)])
    across = np.array([-axis[1], axis[0]])
    half = rng.uniform(0.02, 0.16, 2) * size
    if kind == 0:
        box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        corners = where + box[:, :1] * axis + box[:, 1:] * across
        canvas.polygon(corners, colour, part)
        canvas.polygon(where + (corners - where) * (0.85, 0.6), np.clip(colour * 1.2, 0, 255))
    elif kind == 1:
        ring = CIRCLE * half
        canvas.polygon(where + ring, colour * 0.8, part)
        canvas.polygon(where + ring * 0.6 - half * 0.15, np.clip(colour * 1.15, 0, 255))
    elif kind == 2:
        reach = axis * size * rng.uniform(0.2, 0.9)
        radius = max(1.5, size * rng.uniform(0.005, 0.03))
        canvas.limb(where - reach, where + reach, (radius, radius), colour, part)
    else:
        joint = where
        radius = size * rng.uniform(0.01, 0.035)
        for _ in range(int(rng.integers(2, 4))):
            turn = rng.uniform(0, 2 * np.pi)
            end = joint + np.array([np.cos(turn), np.sin(turn)]) * size * rng.uniform(0.08, 0.22)
            canvas.limb(joint, end, (radius, radius * 0.75), colour, part)
            joint = end


def _things_in_front(canvas: Canvas, figures: list[Figure], rng: np.random.Generator) -> None:
    height, width = canvas.parts.shape
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.4, 0.3, 0.2, 0.1]))):
        figure = figures[rng.integers(len(figures))]
        points = figure.project(figure.body.joints[0])
        where = points[rng.integers(17)] + rng.normal(0, 0.06, 2) * height
        _thing(canvas, where, min(width, height), rng, OCCLUDER)


_NOISE_SIDE = 512


@cache
def _textures() -> list[np.ndarray]:
    """Sixteen textures of grain and cloth, int8 (512, 512, 3), to add to an image."""
    rng = np.random.default_rng(20)
    grain = np.clip(rng.normal(0, 1, (_NOISE_SIDE, _NOISE_SIDE, 3)), -3, 3).astype(np.float32)
    cloth = cv2.GaussianBlur(rng.normal(0, 1, (_NOISE_SIDE, _NOISE_SIDE)), (0, 0), 2.0)
    cloth = (cloth / cloth.std()).astype(np.float32)[..., None]
    strengths = rng.uniform((1.0, 2.0), (7.0, 10.0), (16, 2))
    return [np.round(grain * g + cloth * c).astype(np.int8) for g, c in strengths]


def _finish(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add lens blur, grain and uneven light."""
    height, width = pixels.shape[:2]
    if rng.random() < 0.4:
        pixels = cv2.GaussianBlur(pixels, (3, 3), float(rng.uniform(0.4, 0.9)))
    x, y = rng.integers(0, _NOISE_SIDE - np.array([width, height]) + 1)
    textures = _textures()
    texture = textures[rng.integers(len(textures))][y : y + height, x : x + width]
    pixels = cv2.add(pixels, texture, dtype=cv2.CV_8U)
    shade = np.round(rng.uniform(-45, 45, (2, 2, 1)) + rng.uniform(-12, 12, (1, 1, 3)))
    shade = cv2.resize(shade.astype(np.float32), (width, height)).astype(np.int8)
    return cv2.add(pixels, shade, dtype=cv2.CV_8U)


def _annotate(canvas: Canvas, figures: list[Figure], rng: np.random.Generator) -> Scene:
    count = len(figures)
    keypoints = np.zeros((count, 17, 2), np.float32)
    visible = np.zeros((count, 17), np.float32)
    boxes, areas = np.zeros((count, 4), np.float32), np.zeros(count, np.float32)
    for person, figure in enumerate(figures):
        points = figure.project(figure.body.joints[0])
        visible[person] = read_visibility(canvas.parts, person, figure.body, points)
        keypoints[person] = points * (visible[person, :, None] > 0)
        first = person * PARTS + 1
        seen = cv2.inRange(canvas.parts, first, first + PARTS - 1)
        boxes[person] = cv2.boundingRect(seen)
        areas[person] = cv2.countNonZero(seen)
    annotated = (visible == 2).sum(axis=1) >= MIN_VISIBLE
    pixels = cv2.cvtColor(_finish(canvas.colours, rng), cv2.COLOR_BGR2RGB)
    return Scene(pixels, keypoints, visible, boxes, areas, annotated)
