"""Tables, plots and pictures of a study that run.py has run (also of an unfinished one).

    python experiments/fpn_study/report.py runs/study_lspet --out experiments/fpn_study/lspet

Writes results.json, table.md, accuracy_by_epoch.png, joints.png and pictures.jpg into --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import cv2
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.fpn_study.rows import ROWS, configuration
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.people import People
from vitpose_jax.evaluation.pck import torso_sizes
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.tasks.pose_settings import PoseSettings, pose_config
from vitpose_jax.training.settings import read_part

THRESHOLD = 0.2  # of the torso, as everywhere in the study
SMALL = ("nose", "eye", "ear", "wrist", "ankle")
CROWDED = 0.1  # a person counts as overlapped from this IoU with another one's box on


@dataclass
class Study:
    """What run.py left in a folder."""

    folder: Path
    about: dict
    runs: dict[str, list[dict]]  # by row, one for each seed
    dataset: PoseDataset

    @staticmethod
    def read(folder: Path) -> Study:
        about = json.loads((folder / "study.json").read_text())
        runs = {}
        for name in ROWS:
            files = sorted(folder.glob(f"{name}_seed*/result.json"))
            found = [json.loads(file.read_text()) for file in files]
            found = [run for run in found if run["row"] == name]
            if found:  # nothing in the baseline is random
                runs[name] = found[:1] if name == "baseline" else found
        size = tuple(about["model"]["backbone"]["input_size"])
        return Study(folder, about, runs, open_pose_dataset(about["data"], "val", input_size=size))

    def predictions(self, run: dict) -> tuple[np.ndarray, People]:
        """(keypoints (N, K, 2), the people they belong to)."""
        arrays = np.load(self.folder / f"{run['row']}_seed{run['seed']}" / "predictions.npz")
        row_of = {int(p): i for i, p in enumerate(self.dataset.people.annotation_id)}
        rows = np.array([row_of[int(p)] for p in arrays["person_ids"]])
        return arrays["keypoints"], self.dataset.people.take(rows)


def hits(keypoints: np.ndarray, people: People, names) -> np.ndarray:
    """(N, K) 1 where a labelled joint is within the threshold, 0 where not, NaN unlabelled."""
    torso = torso_sizes(people.keypoints, people.visible, names)
    distance = np.linalg.norm(keypoints - people.keypoints, axis=-1)
    hit = (distance <= THRESHOLD * torso[:, None]).astype(float)
    return np.where((people.visible > 0) & (torso[:, None] > 0), hit, np.nan)


def overlaps(people: People) -> np.ndarray:
    """(N,) largest IoU of each person's box with that of another annotated one on the image."""
    best = np.zeros(len(people))
    corners = np.concatenate([people.box[:, :2], people.box[:, :2] + people.box[:, 2:]], 1)
    areas = people.box[:, 2:].prod(1)
    for i in range(len(people)):
        others = np.flatnonzero(people.image_id == people.image_id[i])
        others = others[others != i]
        low = np.maximum(corners[i, :2], corners[others, :2])
        high = np.minimum(corners[i, 2:], corners[others, 2:])
        inside = np.clip(high - low, 0, None).prod(1)
        iou = inside / (areas[i] + areas[others] - inside)
        best[i] = iou.max(initial=0.0)
    return best


def groups(people: People, names) -> dict[str, np.ndarray]:
    """(N, K) masks: which joints of which people make up each group."""
    small = np.array([any(part in name for part in SMALL) for name in names])
    everyone = np.ones((len(people), len(names)), bool)
    crowded = overlaps(people) >= CROWDED
    masks = {"small joints": everyone & small, "large joints": everyone & ~small}
    if crowded.any():
        masks["overlapped people"] = everyone & crowded[:, None]
        masks["people apart"] = everyone & ~crowded[:, None]
    return masks


def analyse(study: Study) -> dict[str, dict]:
    """Everything measured, by row; lists are over seeds."""
    names = study.dataset.skeleton.keypoint_names
    steps, results = step_times(study), {}
    for name, runs in study.runs.items():
        row = {"seeds": [run["seed"] for run in runs], "about": ROWS[name].about}
        for metric in ("PCK", "AP", "AR"):
            if metric in runs[0]["metrics"]:
                row[metric] = [run["metrics"][metric] for run in runs]
        joints, parts = [], {}
        for run in runs:
            keypoints, people = study.predictions(run)
            hit = hits(keypoints, people, names)
            labelled = ~np.isnan(hit).all(0)
            joint = np.full(len(names), np.nan)
            joint[labelled] = np.nanmean(hit[:, labelled], 0)
            joints.append(joint)
            for part, mask in groups(people, names).items():
                if (~np.isnan(hit[mask])).any():
                    parts.setdefault(part, []).append(float(np.nanmean(hit[mask])))
        mean = np.mean(joints, 0)
        row["joints"] = {n: round(float(v), 4) for n, v in zip(names, mean, strict=True) if v == v}
        row["groups"] = parts
        row["curve"] = [run["curve"] for run in runs]
        row |= cost(study, name) | ({"step": steps[name]} if name in steps else {})
        results[name] = row
    return results


def row_config(study: Study, name: str) -> PoseConfig:
    about = study.about
    model = PoseConfig.from_dict(about["model"])
    config = configuration(ROWS[name], about["data"], about["weights"], model, 0, about["recipe"])
    return pose_config(read_part(PoseSettings, config), study.dataset.skeleton)


def cost(study: Study, name: str) -> dict[str, float]:
    """Parameters behind the backbone, and GFLOPs of the whole model for one crop by XLA's count."""
    config = row_config(study, name)
    model = nnx.eval_shape(lambda: PoseModel(config, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    crops = jax.ShapeDtypeStruct((1, *config.input_size, 3), jnp.float32)
    run = jax.jit(lambda state, crops: nnx.merge(graph, state)(crops))
    flops = run.lower(state, crops).cost_analysis()["flops"]
    head = sum(
        variable.size
        for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param))
        if path[0] != "backbone"
    )
    return {"head_parameters": int(head), "gflops": round(flops / 1e9, 4)}


def step_times(study: Study) -> dict[str, float]:
    """A row's training step over one of full fine-tuning, where measured for this backbone."""
    file = Path(__file__).with_name("step_cost.json")
    measured = json.loads(file.read_text()) if file.exists() else {}
    if measured.get("model") != json.loads(json.dumps(study.about["model"]["backbone"])):
        return {}
    return measured["step_time_over_full_fine_tuning"]


def table(results: dict[str, dict], metric: str) -> str:
    """Markdown: mean and sample standard deviation over seeds, difference from the baseline."""
    base = np.mean(results["baseline"][metric])
    second = "AP" if metric == "PCK" else "AR"
    lines = [
        f"| row | what | {metric} (x100) | - baseline | {second} (x100) | seeds | head params | "
        "GFLOPs | step / full |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        cells = []
        for key in (metric, second):
            values = 100 * np.array(row[key])
            spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.2f}{spread}")
        difference = 100 * (np.mean(row[metric]) - base)
        lines.append(
            f"| {name} | {row['about']} | {cells[0]} | {difference:+.2f} | {cells[1]} | "
            f"{len(row['seeds'])} | {row['head_parameters'] / 1e6:.2f} M | {row['gflops']:.3f} | "
            f"{row.get('step', '')} |"
        )
    return "\n".join(lines)


def group_table(results: dict[str, dict]) -> str:
    """Markdown: PCK of groups of joints and people."""
    parts = list(results["baseline"]["groups"])
    lines = ["| row | " + " | ".join(parts) + " |", "|---" * (len(parts) + 1) + "|"]
    for name, row in results.items():
        cells = []
        for part in parts:
            values = 100 * np.array(row["groups"][part])
            spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.2f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot_curves(results: dict[str, dict], metric: str, epochs: float, file: Path) -> None:
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
        x, style = steps / steps[-1] * epochs, "-" if i < 10 else "--"
        axes.plot(x, values.mean(0), style, color=colours(i % 20), label=name, lw=1.6)
        axes.fill_between(x, values.min(0), values.max(0), color=colours(i % 20), alpha=0.15, lw=0)
    axes.set(xlabel="epoch", ylabel=f"{metric} x 100 (mean; band: all seeds)")
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


def draw_pictures(study: Study, rows: list[str], file: Path, count: int = 6) -> None:
    """The same people under several rows: truth, then each row's first seed."""
    dataset = study.dataset
    people, limbs = dataset.people, dataset.skeleton.limbs
    overlap = overlaps(people)
    # Overlapped people first where there are any, spread over the data set else.
    order = np.argsort(-overlap, kind="stable") if overlap.any() else np.arange(len(people))
    step = max(len(order) // count, 1) if not overlap.any() else 3
    chosen = order[::step][:count]
    columns = [("truth", people.keypoints, people)]
    for name in rows:
        keypoints, whose = study.predictions(study.runs[name][0])
        columns.append((name, keypoints, whose))
    sheet = []
    for person in chosen:
        picture = dataset.images.load(people, person, 1.0).pixels[..., ::-1]  # as OpenCV writes
        x, y, w, h = people.box[person]
        margin = 0.2 * max(w, h)
        x0, y0 = max(int(x - margin), 0), max(int(y - margin), 0)
        cut = picture[y0 : int(y + h + margin), x0 : int(x + w + margin)]
        scale = min(240 / cut.shape[0], 200 / cut.shape[1])
        cells = []
        for _, keypoints, whose in columns:
            row = int(np.flatnonzero(whose.annotation_id == people.annotation_id[person])[0])
            points = ((keypoints[row] - (x0, y0)) * scale).round().astype(int)
            cell = cv2.resize(cut, None, fx=scale, fy=scale)
            shown = people.visible[person] > 0
            for a, b in limbs:
                if shown[a] and shown[b]:
                    ends = tuple(map(int, points[a])), tuple(map(int, points[b]))
                    cv2.line(cell, *ends, (0, 220, 255), 2, cv2.LINE_AA)
            for point in points[shown]:
                cv2.circle(cell, tuple(map(int, point)), 3, (60, 60, 255), -1, cv2.LINE_AA)
            framed = np.full((244, 204, 3), 255, np.uint8)
            framed[2 : 2 + cell.shape[0], 2 : 2 + cell.shape[1]] = cell[:240, :200]
            cells.append(framed)
        sheet.append(np.hstack(cells))
    header = np.full((26, sheet[0].shape[1], 3), 255, np.uint8)
    for i, (name, *_) in enumerate(columns):
        cv2.putText(header, name, (204 * i + 4, 18), 0, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.imwrite(str(file), np.vstack([header, *sheet]), [cv2.IMWRITE_JPEG_QUALITY, 82])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metric", default="PCK", choices=["PCK", "AP"])
    options = parser.parse_args()
    study = Study.read(options.folder)
    options.out.mkdir(parents=True, exist_ok=True)
    results = analyse(study)
    about = {key: value for key, value in study.about.items() if key not in ("data", "weights")}
    text = json.dumps({"about": about, "rows": results}, indent=1)
    (options.out / "results.json").write_text(text + "\n")
    tables = [table(results, options.metric), "", group_table(results)]
    (options.out / "table.md").write_text("\n".join(tables) + "\n")
    epochs = study.about["epochs"]
    plot_curves(results, options.metric, epochs, options.out / "accuracy_by_epoch.png")
    plot_joints(results, options.out / "joints.png")
    wanted = ("baseline", "residual", "dense", "intermediate_3_7_11", "simple")
    shown = [name for name in wanted if name in study.runs]
    draw_pictures(study, shown, options.out / "pictures.jpg")
    print("\n".join(tables))


if __name__ == "__main__":
    main()
