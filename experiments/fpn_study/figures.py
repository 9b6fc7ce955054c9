"""Plots and pictures of a study."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import cv2
import matplotlib.pyplot as plt
import numpy as np

from experiments.fpn_study.measures import distances
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.people import People


def plot_curves(results: dict[str, dict], metric: str, file: Path) -> None:
    figure, axes = plt.subplots(figsize=(10, 6), constrained_layout=True)
    colours = plt.get_cmap("tab20")
    base = 100 * np.mean(results["baseline"][metric])
    axes.axhline(base, color="black", lw=1, ls="--", label="baseline (pretrained decoder)")
    trained = [name for name in results if name != "baseline"]
    for i, name in enumerate(trained):
        curves = results[name]["curve"]
        length = min(len(curve) for curve in curves)
        steps = np.array([point["step"] for point in curves[0][:length]])
        values = 100 * np.array([[p[metric] for p in curve[:length]] for curve in curves])
        style = "-" if i < 10 else "--"
        axes.plot(steps, values.mean(0), style, color=colours(i % 20), label=name, lw=1.6)
        axes.fill_between(
            steps, values.min(0), values.max(0), color=colours(i % 20), alpha=0.15, lw=0
        )
    axes.set(xlabel="step", ylabel=f"{metric} x 100 (mean; band: all seeds)")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def plot_joints(results: dict[str, dict], file: Path) -> None:
    base = results["baseline"]
    rows = [name for name in results if name != "baseline"]
    joints = list(base["joints"])
    parts = list(base["groups"])
    joint_gaps = [
        [100 * (results[r]["joints"][j] - base["joints"][j]) for j in joints] for r in rows
    ]
    part_gaps = [
        [100 * (np.mean(results[r]["groups"][p]) - np.mean(base["groups"][p])) for p in parts]
        for r in rows
    ]
    gaps = np.hstack([joint_gaps, part_gaps])
    limit = max(np.abs(gaps).max(), 1e-6)
    figure, axes = plt.subplots(
        figsize=(0.55 * gaps.shape[1] + 4, 0.34 * len(rows) + 2.4), constrained_layout=True
    )
    image = axes.imshow(gaps, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(gaps.shape[1]), joints + parts, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.axvline(len(joints) - 0.5, color="black", lw=1)
    for (y, x), value in np.ndenumerate(gaps):
        shade = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(x, y, f"{value:+.1f}", ha="center", va="center", fontsize=6, color=shade)
    figure.colorbar(image, label="PCK x 100, row - baseline")
    figure.savefig(file, dpi=90)
    plt.close(figure)


def draw_pictures(
    dataset: PoseDataset, predictions: dict[str, tuple[np.ndarray, People]], file: Path, count=8
) -> None:
    """The people on whom the first two rows differ most: truth, then each row's first seed.

    They differ by the mean distance of the joints from the truth, over the torso and at most one
    torso a joint.
    """
    people, names = dataset.people, dataset.skeleton.keypoint_names
    place = {int(person): row for row, person in enumerate(people.annotation_id)}
    columns = {"truth": people.keypoints}
    for name, (keypoints, whose) in predictions.items():
        columns[name] = np.full_like(people.keypoints, np.nan)
        columns[name][[place[int(person)] for person in whose.annotation_id]] = keypoints
    first, second = list(predictions)[:2]
    errors = [np.minimum(distances(columns[n], people, names), 1) for n in (first, second)]
    judged = ~np.isnan(errors[0] + errors[1])
    gap = np.abs(np.where(judged, errors[0] - errors[1], 0).sum(1)) / np.maximum(judged.sum(1), 1)
    chosen = np.argsort(-gap, kind="stable")[:count]
    rows = [_row_of_pictures(dataset, person, list(columns.values())) for person in chosen]
    header = np.full((26, rows[0].shape[1], 3), 255, np.uint8)
    for i, name in enumerate(columns):
        cv2.putText(header, name, (204 * i + 4, 18), 0, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    half = (len(rows) + 1) // 2
    sheets = [np.vstack([header, *part]) for part in (rows[:half], rows[half:])]
    cv2.imwrite(str(file), np.hstack(sheets), [cv2.IMWRITE_JPEG_QUALITY, 82])


def _row_of_pictures(dataset: PoseDataset, person: int, poses: list[np.ndarray]) -> np.ndarray:
    """A person's picture under each of the poses (N, K, 2)."""
    people = dataset.people
    picture = dataset.images.load(people, person, 1.0).pixels[..., ::-1]  # as OpenCV writes
    x, y, w, h = people.box[person]
    margin = 0.2 * max(w, h)
    x0, y0 = max(int(x - margin), 0), max(int(y - margin), 0)
    cut = picture[y0 : int(y + h + margin), x0 : int(x + w + margin)]
    scale = min(240 / cut.shape[0], 200 / cut.shape[1])
    shown = people.visible[person] > 0
    cells = []
    for pose in poses:
        points = ((pose[person] - (x0, y0)) * scale).round().astype(int)
        cell = cv2.resize(cut, None, fx=scale, fy=scale)
        for a, b in dataset.skeleton.limbs:
            if shown[a] and shown[b]:
                ends = tuple(map(int, points[a])), tuple(map(int, points[b]))
                cv2.line(cell, *ends, (0, 220, 255), 2, cv2.LINE_AA)
        for point in points[shown]:
            cv2.circle(cell, tuple(map(int, point)), 3, (60, 60, 255), -1, cv2.LINE_AA)
        framed = np.full((244, 204, 3), 255, np.uint8)
        framed[2 : 2 + cell.shape[0], 2 : 2 + cell.shape[1]] = cell[:240, :200]
        cells.append(framed)
    return np.hstack(cells)
