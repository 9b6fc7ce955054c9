"""How many people per second one core prepares, next to the same work in the original's order.

The reference does with OpenCV and numpy what the original's pipeline does, step by step: read and
decode the whole image, turn it to RGB, mirror it, draw half body, scale and rotation, warp,
normalise to float32, draw the target heatmaps, stack the batch. Ours decodes, warps once to uint8,
and leaves normalisation and targets to the device (where they belong to the jitted step). Both run
in one thread of one process, turn by turn, timed in processor time, without samples or images being
remembered.

    python experiments/benchmarks/input_pipeline.py --data ../shared/data/lspet-coco \\
        ../shared/data/coco-mini
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from harness import keep

from vitpose_jax.data.augmentation import unaugmented
from vitpose_jax.data.batches import train_batches
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.records.writing import prepare
from vitpose_jax.files.pictures import decode_image, reduction
from vitpose_jax.keypoints.crops import box_to_center_scale, udp_affine
from vitpose_jax.keypoints.warping import warp_crop

BATCH = 32
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def reference_batches(dataset: PoseDataset, heatmap_size: tuple[int, int], seed: int) -> Iterator:
    """Batches of normalised float32 crops (B, 3, H, W), targets (B, K, h, w) and weights."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(dataset))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            samples = [
                reference_sample(dataset, row, heatmap_size, rng)
                for row in order[start : start + BATCH]
            ]
            yield tuple(np.stack(column) for column in zip(*samples, strict=True))


def reference_sample(
    dataset: PoseDataset, row: int, heatmap_size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One augmented sample, every step on its own, as in mmpose 0.24."""
    people, skeleton, input_size = dataset.people, dataset.skeleton, dataset.input_size
    encoded = np.fromfile(dataset.images.path(people.image_row[row]), np.uint8)
    image = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    joints, visible = people.keypoints[row].copy(), people.visible[row].copy()
    box = people.box[row]
    center, scale = box_to_center_scale(box, input_size)
    if rng.random() < 0.3:
        center = center + 0.4 * (rng.random(2) - 0.5) * box[2:]

    if rng.random() <= 0.5:
        image = image[:, ::-1]
        width = image.shape[1]
        joints, visible = joints[skeleton.flip_index], visible[skeleton.flip_index]
        joints[:, 0] = width - 1 - joints[:, 0]
        joints *= visible[:, None] > 0
        center[0] = width - 1 - center[0]

    if (visible > 0).sum() > 8 and rng.random() < 0.3:
        center, scale = reference_half_body(
            joints, visible, skeleton, input_size, center, scale, rng
        )
    scale = scale * np.clip(rng.standard_normal() * 0.5 + 1, 0.5, 1.5)
    rotation = np.clip(rng.standard_normal() * 40, -80, 80) if rng.random() <= 0.6 else 0

    matrix = udp_affine(center, scale, rotation, input_size)
    crop = cv2.warpAffine(image, matrix, input_size[::-1], flags=cv2.INTER_LINEAR)
    joints = joints @ matrix[:, :2].T + matrix[:, 2]

    planes = np.ascontiguousarray(crop.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
    planes = (planes - MEAN[:, None, None]) / STD[:, None, None]
    target, weight = reference_targets(joints, visible, input_size, heatmap_size)
    return planes, target, weight


def reference_half_body(joints, visible, skeleton, input_size, center, scale, rng):
    """Centre and scale of the upper or the lower body."""
    upper, lower = [], []
    for k in range(skeleton.num_keypoints):
        if visible[k] > 0:
            (upper if k in skeleton.upper_body else lower).append(joints[k])
    if rng.standard_normal() < 0.5 and len(upper) > 2:
        chosen = upper
    else:
        chosen = lower if len(lower) > 2 else upper
    if len(chosen) < 2:
        return center, scale
    chosen = np.array(chosen)
    low, size = chosen.min(axis=0), np.ptp(chosen, axis=0)
    _, scale = box_to_center_scale(np.concatenate([low, size]), input_size, padding=1.5)
    return chosen.mean(axis=0), scale


def reference_targets(joints, visible, input_size, heatmap_size, sigma=2.0):
    """UDP Gaussians, one keypoint after the other, each cut to 13x13."""
    height, width = heatmap_size
    stride = (np.array(input_size[::-1]) - 1.0) / (np.array([width, height]) - 1.0)
    radius = int(sigma * 3)
    side = np.arange(2 * radius + 1, dtype=np.float32)
    target = np.zeros((len(joints), height, width), np.float32)
    weight = (visible > 0).astype(np.float32)[:, None]
    for k in range(len(joints)):
        position = joints[k] / stride
        x, y = int(position[0] + 0.5), int(position[1] + 0.5)
        x0, y0, x1, y1 = x - radius, y - radius, x + radius + 1, y + radius + 1
        if x0 >= width or y0 >= height or x1 < 0 or y1 < 0:
            weight[k] = 0
        if weight[k] < 0.5:
            continue
        dx, dy = position - (x, y)
        bump = np.exp(
            -((side - radius - dx) ** 2 + (side[:, None] - radius - dy) ** 2) / (2 * sigma**2)
        )
        left, right, top, bottom = max(0, x0), min(x1, width), max(0, y0), min(y1, height)
        target[k, top:bottom, left:right] = bump[top - y0 : bottom - y0, left - x0 : right - x0]
    return target, weight


def seconds_per_batch(iterator: Iterator, batches: int) -> float:
    """Mean processor time of the next batches."""
    start = time.process_time()
    for _ in range(batches):
        next(iterator)
    return (time.process_time() - start) / batches


def measure(variants: dict[str, Callable[[], Iterator]], rounds: int, batches: int) -> dict:
    """People per second of every variant, one figure a round, the variants taking turns."""
    iterators = {name: make() for name, make in variants.items()}
    for iterator in iterators.values():
        seconds_per_batch(iterator, 2)
    speeds = {name: [] for name in variants}
    for _ in range(rounds):
        for name, iterator in iterators.items():
            speeds[name].append(BATCH / seconds_per_batch(iterator, batches))
    reference = speeds["reference"]
    return {
        name: {
            "people_per_second_per_core": spread(values),
            "ratio": spread([v / r for v, r in zip(values, reference, strict=True)]),
        }
        for name, values in speeds.items()
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75]).tolist()
    return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}


def reduced_decoding(folder: str, input_size: tuple[int, int]) -> dict:
    """What decoding JPEGs at 1/2, 1/4 or 1/8 changes, for unaugmented people large enough for it.

    Crops are held against those of the image reduced by averaging areas, which is what a crop
    without aliasing would show, and, as training on full images sees it, against bilinear sampling
    of the full image. Differences are in grey levels of 255, averaged over a crop.
    """
    dataset = open_pose_dataset(folder, "train", input_size=input_size)
    placements = unaugmented(dataset.people.box, input_size)
    to_area, to_full, gain = [], [], []
    for row in range(len(dataset)):
        matrix = udp_affine(placements.center[row], placements.scale[row], 0.0, input_size)
        factor = reduction(1 / float(np.sqrt(np.linalg.det(matrix[:, :2]))))
        if factor == 1:
            continue
        data = dataset.images.read(dataset.people.image_row[row])
        wh = tuple(dataset.people.image_wh[row].tolist())
        full, reduced = decode_image(data, wh), decode_image(data, wh, factor)
        area = cv2.resize(full, reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
        inner = matrix.astype(float) @ np.diag([factor, factor, 1.0])
        inner[:, 2] += matrix[:, :2].astype(float) @ np.full(2, (factor - 1) / 2)
        crops = [np.empty((*input_size, 3), np.uint8) for _ in range(3)]
        sources = ((full, matrix), (reduced, inner), (area, inner))
        for (image, where), crop in zip(sources, crops, strict=True):
            warp_crop(image, where.astype(float), crop)
        full, reduced, area = (crop.astype(int) for crop in crops)
        to_area.append(np.abs(reduced - area).mean())
        to_full.append(np.abs(reduced - full).mean())
        seconds = []
        for f in (1, factor):
            start = time.process_time()
            for _ in range(5):
                decode_image(data, wh, f)
            seconds.append(time.process_time() - start)
        gain.append(seconds[0] / seconds[1])
    if not gain:
        return {"input_size": list(input_size), "people": 0, "of": len(dataset)}
    return {
        "input_size": list(input_size),
        "people": len(gain),
        "of": len(dataset),
        "difference_to_area_average": spread(to_area),
        "difference_to_full_bilinear": spread(to_full),
        "decoding_speedup": spread(gain),
    }


def main() -> None:
    """Measure every data set and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", required=True, help="folders in COCO's layout")
    parser.add_argument("--out", help="results file (results/input_pipeline.json)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=5, help="per round and variant")
    options = parser.parse_args()
    for folder in options.data:
        count = len(open_pose_dataset(folder, "train"))
        if count < BATCH:
            parser.error(f"{folder} has {count} people to train on: {BATCH} make a batch")

    results = {}
    for folder in options.data:
        with tempfile.TemporaryDirectory() as records:
            prepare(folder, records, splits=("train",))
            raw = open_pose_dataset(folder, "train")
            prepared = open_pose_dataset(records, "train")
            results[Path(folder).name] = measure(
                {
                    "reference": lambda raw=raw: reference_batches(raw, (64, 48), seed=0),
                    "raw": lambda raw=raw: iter(train_batches(raw, BATCH, num_threads=0)),
                    "records": lambda p=prepared: iter(train_batches(p, BATCH, num_threads=0)),
                },
                options.rounds,
                options.batches,
            )
    reduced = {
        Path(folder).name: reduced_decoding(folder, (128, 96)) for folder in options.data[-1:]
    }
    result = {"options": vars(options), "batch": BATCH, "results": results}
    title = (
        f"Medians (quartiles) over {options.rounds} rounds of {options.batches} batches of "
        f"{BATCH}, in processor time of one thread, the variants taking turns in one process"
    )
    tables = {title: as_table(results, reduced)}
    keep("input_pipeline", result | {"reduced_decoding": reduced}, tables, options.out)


def as_table(results: dict, reduced: dict) -> str:
    """The figures as Markdown."""
    lines = ["| data | variant | people/s/core | ratio |", "|---|---|---|---|"]
    for data, variants in results.items():
        for name, figures in variants.items():
            speed, ratio = figures["people_per_second_per_core"], figures["ratio"]
            low, high = ratio["quartiles"]
            lines.append(
                f"| {data} | {name} | {speed['median']:.0f} "
                f"| {ratio['median']:.2f} ({low:.2f} to {high:.2f}) |"
            )
    for data, figures in reduced.items():
        if figures["people"]:
            height, width = figures["input_size"]
            lines += [
                "",
                f"Reduced decoding, {data}, crops of {width} x {height}, {figures['people']} of "
                f"{figures['of']} people: {figures['decoding_speedup']['median']:.2f} times as "
                f"fast; {figures['difference_to_area_average']['median']:.2f} grey levels of 255 "
                "from the whole image averaged down, "
                f"{figures['difference_to_full_bilinear']['median']:.2f} from the whole image "
                "sampled, which aliases.",
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
