"""A page that shows a data set: people as training sees them, distributions, findings.

It is one self-contained HTML file: pictures are embedded, drawings are SVG.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import cv2
import numpy as np
from PIL import Image

from vitpose_jax.data.augmentation import NO_AUGMENTATION, Augmentation, draw_numbers
from vitpose_jax.data.coco.folder import FolderImages
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.findings import Finding, Kind
from vitpose_jax.data.overview import describe
from vitpose_jax.data.people import BadImage
from vitpose_jax.data.samples import Batch
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import number
from vitpose_jax.files.pictures import Pixels, decode_image
from vitpose_jax.keypoints.crops import PIXEL_STD
from vitpose_jax.keypoints.drawing import SIDE_COLOURS
from vitpose_jax.keypoints.skeletons import Skeleton

PEOPLE = 24
"""How many people to show per split."""
EXAMPLES = 3
"""How many examples to show per kind of finding."""
_THUMBNAIL = 320
_MARGIN, _LINE = 66, 8.5  # beside a crop, for keypoint names, in pixels of a crop 192 wide
_MOST_NAMES = 30
_BINS = 24

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1240px;
       padding: 0 1rem; color: #222; background: #fff; }
pre { background: #f4f4f2; padding: .8rem; overflow-x: auto; white-space: pre-wrap; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(560px, 1fr)); gap: 1rem; }
.sheet figure, .examples figure { margin: 0; background: #f4f4f2; padding: .4rem; }
.sheet svg { width: 49.5%; height: auto; }
.examples { display: flex; flex-wrap: wrap; gap: 1rem; }
figcaption { font-size: 13px; overflow-wrap: anywhere; max-width: 36rem; }
.costs { border-left: 4px solid #d1495b; padding-left: .8rem; }
.told { border-left: 4px solid #bbb; padding-left: .8rem; }
text { font-family: system-ui, sans-serif; }
"""


def render_page(datasets: Sequence[PoseDataset], title: str) -> str:
    """The page of one or both splits of a data set."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
    ]
    for dataset in datasets:
        parts += _section(dataset)
    return "\n".join([*parts, "</body></html>\n"])


def _section(dataset: PoseDataset) -> Iterable[str]:
    yield f"<h2>{escape(dataset.split)}</h2><pre>{escape(describe(dataset, full=True))}</pre>"
    if dataset.report is not None:
        yield "<h3>Findings</h3>"
        by_kind: dict[Kind, list[Finding]] = {}
        for finding in dataset.report.findings:
            by_kind.setdefault(finding.kind, []).append(finding)
        for kind, found in sorted(by_kind.items(), key=lambda item: not item[0].costs):
            yield from _findings(dataset, kind, found)
        yield "" if by_kind else "<p>None.</p>"
        yield "<h3>Sizes and visibility</h3>"
        yield _size_histogram(dataset.people.box)
        yield _visibility_bars(dataset.people.visible, dataset.skeleton)
    yield (
        "<h3>People as training sees them</h3><p>Each crop as it is and mirrored, with its box and "
        "its keypoints (hollow where hidden). <b style='color:#1c7ed6'>Blue</b> is the person's "
        "own left, <b style='color:#d97706'>orange</b> their right: every name must be on the "
        "correct side, in the mirrored crop too.</p>"
    )
    yield from _contact_sheet(dataset)


def _contact_sheet(dataset: PoseDataset) -> Iterable[str]:
    places = np.unique(np.linspace(0, len(dataset) - 1, PEOPLE).astype(int))
    numbers = draw_numbers(np.random.default_rng(0), len(places))
    try:
        plain, mirrored = (
            dataset.training_crops().training_batch(places, numbers, augmentation)
            for augmentation in (NO_AUGMENTATION, _always_mirrored())
        )
    except UserError as error:
        yield f"<p>{escape(str(error))}</p>"
        return
    names = dict(zip(dataset.image_ids.tolist(), dataset.file_names, strict=False))
    yield '<div class="sheet">'
    for i in range(len(places)):
        image = int(plain["image_id"][i])
        about = f"{names.get(image, f'image {image}')}, annotation {plain['annotation_id'][i]}"
        box = _box_on_crop(plain, i)
        width = plain["crop"].shape[2]
        other = (width - 1 - box[0] - box[2], *box[1:])
        yield f"<figure>{_crop_svg(plain, i, box, dataset.skeleton)}"
        yield _crop_svg(mirrored, i, other, dataset.skeleton)
        yield f"<figcaption>{escape(about)}</figcaption></figure>"
    yield "</div>"


def _always_mirrored() -> Augmentation:
    values = vars(NO_AUGMENTATION) | {"flip_probability": 1.1}
    return Augmentation(**values)


def _box_on_crop(batch: Batch, i: int) -> tuple[float, float, float, float]:
    """The box in pixels of the upright crop."""
    height, width = batch["crop"].shape[1:3]
    size = batch["scale"][i] * PIXEL_STD
    zoom = (np.array([width, height]) - 1) / size
    x, y = (batch["box"][i][:2] - batch["center"][i] + size / 2) * zoom
    w, h = batch["box"][i][2:] * zoom
    return float(x), float(y), float(w), float(h)


def _crop_svg(
    batch: Batch, i: int, box: tuple[float, float, float, float], skeleton: Skeleton
) -> str:
    """A crop with its box, and its keypoints' names beside it."""
    height, width = batch["crop"].shape[1:3]
    points, visible = batch["crop_xy"][i], batch["visible"][i]
    named = skeleton.num_keypoints <= _MOST_NAMES
    margin = width * _MARGIN / 192 if named else 0
    parts = [
        f'<svg viewBox="{-margin:.0f} 0 {width + 2 * margin:.0f} {height}" role="img" '
        'aria-label="crop with keypoints">',
        f'<image href="{_embedded(batch["crop"][i])}" width="{width}" height="{height}"/>',
        _rectangle(box),
        _skeleton_svg(points, visible, skeleton, radius=width / 90),
    ]
    if named:
        parts.append(_names_svg(points, visible, skeleton, width, height))
    return "".join([*parts, "</svg>"])


def _rectangle(box: Sequence[float]) -> str:
    x, y, w, h = box
    where = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="none"'
    dashes = ("#222", "none"), ("#fff", "4 4")  # visible on light and on dark pictures
    return "".join(
        f'<rect {where} stroke="{colour}" stroke-dasharray="{dash}" '
        'vector-effect="non-scaling-stroke"/>'
        for colour, dash in dashes
    )


def _skeleton_svg(
    points: np.ndarray, visible: np.ndarray, skeleton: Skeleton, radius: float
) -> str:
    """Limbs and labelled keypoints."""
    parts = [
        f'<line x1="{points[a, 0]:.1f}" y1="{points[a, 1]:.1f}" x2="{points[b, 0]:.1f}" '
        f'y2="{points[b, 1]:.1f}" stroke="{_colour(skeleton, a, b)}" stroke-width="{radius:.2f}" '
        'stroke-opacity=".75"/>'
        for a, b in skeleton.limbs
        if visible[a] > 0 and visible[b] > 0
    ]
    for k in np.flatnonzero(visible > 0).tolist():
        colour = _colour(skeleton, k, k)
        fill = "none" if visible[k] == 1 else colour
        parts.append(
            f'<circle cx="{points[k, 0]:.1f}" cy="{points[k, 1]:.1f}" r="{radius:.2f}" '
            f'fill="{fill}" stroke="{colour}" stroke-width="{radius / 2:.2f}">'
            f"<title>{escape(skeleton.keypoint_names[k])}</title></circle>"
        )
    return "".join(parts)


def _colour(skeleton: Skeleton, a: int, b: int) -> str:
    sides = {skeleton.side(a), skeleton.side(b)} - {"centre"}
    red, green, blue = SIDE_COLOURS[sides.pop() if len(sides) == 1 else "centre"]
    return f"#{red:02x}{green:02x}{blue:02x}"


def _names_svg(
    points: np.ndarray, visible: np.ndarray, skeleton: Skeleton, width: int, height: int
) -> str:
    """Names in both margins, each with a line to its keypoint."""
    scale, parts = width / 192, []
    labelled = np.flatnonzero(visible > 0)
    middle = np.median(points[labelled, 0]) if len(labelled) else 0
    line = min(_LINE * scale, height / max(1, len(labelled)) * 1.8)
    for on_left in (True, False):
        column = [k for k in labelled.tolist() if (points[k, 0] < middle) == on_left]
        column.sort(key=lambda k: points[k, 1])
        heights = np.array([points[k, 1] for k in column])
        for i in range(1, len(column)):
            heights[i] = max(heights[i], heights[i - 1] + line)
        for i in reversed(range(len(column))):
            most = height - 3 - (len(column) - 1 - i) * line
            heights[i] = max(min(heights[i], most), line + i * line)
        for k, y in zip(column, heights.tolist(), strict=True):
            x, anchor = (-4, "end") if on_left else (width + 4, "start")
            edge = 0 if on_left else width
            parts.append(
                f'<line x1="{edge}" y1="{y - line / 3:.1f}" x2="{points[k, 0]:.1f}" '
                f'y2="{points[k, 1]:.1f}" stroke="#fff" stroke-opacity=".6" '
                f'stroke-width="{0.5 * scale:.2f}"/><text x="{x}" y="{y:.1f}" '
                f'text-anchor="{anchor}" font-size="{0.9 * line:.1f}" fill="#222">'
                f"{escape(skeleton.keypoint_names[k])}</text>"
            )
    return "".join(parts)


def _embedded(pixels: Pixels) -> str:
    """A picture as a data URL (JPEG)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _findings(dataset: PoseDataset, kind: Kind, found: Sequence[Finding]) -> Iterable[str]:
    verb = "left out" if kind.left_out else "kept"
    yield f'<div class="{"costs" if kind.costs else "told"}"><p><b>{len(found)}</b> '
    yield f'{escape(kind.words)} ({verb})</p><div class="examples">'
    for finding in [] if kind.usual else found[:EXAMPLES]:
        picture = _finding_svg(dataset, finding.annotation)
        yield f"<figure>{picture}<figcaption>{escape(finding.where)}</figcaption></figure>"
    yield "</div></div>"


def _finding_svg(dataset: PoseDataset, annotation: object) -> str:
    """An annotation's image with its box and keypoints, as far as they can be read."""
    images = dataset.images
    if not isinstance(annotation, dict) or not isinstance(images, FolderImages):
        return ""
    rows = np.flatnonzero(dataset.image_ids == _number(annotation.get("image_id")))
    try:
        pixels = decode_image(images.read(int(rows[0])))
    except (IndexError, BadImage, UserError):
        return ""
    height, width = pixels.shape[:2]
    zoom = min(1.0, _THUMBNAIL / max(height, width))
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    parts = [f'<image href="{_embedded(small)}" width="{width}" height="{height}"/>']
    box = _numbers(annotation.get("bbox"))
    if len(box) == 4:
        parts.append(_rectangle(box))
    points = _numbers(annotation.get("keypoints"))
    count = dataset.skeleton.num_keypoints
    if len(points) == 3 * count:
        table = np.reshape(points, (count, 3))
        radius = max(height, width) / 120
        parts.append(_skeleton_svg(table[:, :2], table[:, 2], dataset.skeleton, radius))
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{size[0]}" height="{size[1]}" role="img" '
        f'aria-label="example">{"".join(parts)}</svg>'
    )


def _number(value: object) -> float:
    found = number(value)
    return float("nan") if found is None else found


def _numbers(values: object) -> list[float]:
    """A list of finite numbers; empty for anything else."""
    numbers = [_number(v) for v in values] if isinstance(values, list) else []
    return numbers if all(map(np.isfinite, numbers)) else []


def _size_histogram(box: np.ndarray) -> str:
    """Longer sides of boxes, on a logarithmic scale."""
    longer = np.maximum(box[:, 2:].max(axis=1), 1) if len(box) else np.ones(1)
    low, high = np.log2(longer.min()), max(np.log2(longer.max()), np.log2(longer.min()) + 1)
    counts, edges = np.histogram(np.log2(longer), _BINS, (low, high))
    width, height, most = 560, 130, max(1, counts.max())
    bar = width / _BINS
    parts = [
        f'<rect x="{i * bar:.1f}" y="{height - height * n / most:.1f}" width="{bar - 1:.1f}" '
        f'height="{height * n / most:.1f}" fill="#4c78a8"><title>{2 ** edges[i]:.0f} to '
        f"{2 ** edges[i + 1]:.0f} pixels: {n}</title></rect>"
        for i, n in enumerate(counts.tolist())
    ]
    for i in range(0, _BINS + 1, 4):
        parts.append(
            f'<text x="{i * bar:.1f}" y="{height + 16}" font-size="12" '
            f'text-anchor="middle">{2 ** edges[i]:.0f}</text>'
        )
    return (
        f'<figure><svg viewBox="-20 0 {width + 40} {height + 22}" width="{width + 40}" role="img" '
        f'aria-label="sizes of boxes">{"".join(parts)}</svg><figcaption>Longer side of '
        f"boxes in pixels ({len(box)} people)</figcaption></figure>"
    )


def _visibility_bars(visible: np.ndarray, skeleton: Skeleton) -> str:
    """For each keypoint, the shares of people in whom it is visible or hidden."""
    row, left, width, parts = 15, 170, 400, []
    for k, name in enumerate(skeleton.keypoint_names):
        column = visible[:, k]
        shares = [float(np.mean(column == flag)) if len(column) else 0.0 for flag in (2, 1)]
        y, start = k * row, float(left)
        parts.append(
            f'<text x="{left - 6}" y="{y + 11}" font-size="12" text-anchor="end">'
            f"{escape(name)}</text>"
            f'<rect x="{left}" y="{y}" width="{width}" height="{row - 3}" fill="#e4e4e0"/>'
        )
        for share, colour, word in zip(
            shares, ("#4c78a8", "#9ecae9"), ("visible", "hidden"), strict=True
        ):
            parts.append(
                f'<rect x="{start:.1f}" y="{y}" width="{width * share:.1f}" height="{row - 3}" '
                f'fill="{colour}"><title>{escape(name)}: {share:.0%} {word}</title></rect>'
            )
            start += width * share
    height = row * skeleton.num_keypoints
    return (
        f'<figure><svg viewBox="0 0 {left + width} {height}" width="{left + width}" role="img" '
        f'aria-label="visibility of keypoints">{"".join(parts)}</svg><figcaption>Keypoints: '
        "visible (dark), labelled but hidden (light), unlabelled (grey)</figcaption></figure>"
    )
