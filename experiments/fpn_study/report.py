"""Tables, plots and pictures of a study that run.py has run (also of an unfinished one).

    python experiments/fpn_study/report.py runs/study_lspet --out experiments/fpn_study/lspet

Writes results.json, table.md, accuracy_by_step.png, joints.png and pictures.jpg into --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.fpn_study.figures import draw_pictures, plot_curves, plot_joints
from experiments.fpn_study.measures import (
    FINE,
    KINDS,
    THRESHOLD,
    distances,
    error_kinds,
    groups,
    hits,
)
from experiments.fpn_study.rows import ROWS, configuration
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.people import People
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.tasks.pose_settings import PoseSettings, pose_config
from vitpose_jax.training.settings import read_part


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


def analyse(study: Study) -> dict[str, dict]:
    """Everything measured, by row; lists are over seeds."""
    steps, results = step_times(study), {}
    for name, runs in study.runs.items():
        row: dict = {"seeds": [run["seed"] for run in runs], "about": ROWS[name].about}
        for metric in ("PCK", "AP", "AP75", "AR"):
            if metric in runs[0]["metrics"]:
                row[metric] = [run["metrics"][metric] for run in runs]
        row |= over_seeds([measure(study, *study.predictions(run)) for run in runs])
        row["curve"] = [run["curve"] for run in runs]
        row |= cost(study, name) | ({"step": steps[name]} if name in steps else {})
        results[name] = row
    return results


def measure(study: Study, keypoints: np.ndarray, people: People) -> dict[str, dict[str, float]]:
    """PCK by joint, by group of joints and people at both thresholds, and kinds of errors."""
    skeleton = study.dataset.skeleton
    distance = distances(keypoints, people, skeleton.keypoint_names)
    hit, fine = hits(distance, THRESHOLD), hits(distance, FINE)
    labelled = zip(skeleton.keypoint_names, hit.T, ~np.isnan(hit).all(0), strict=True)
    masks = {"all": np.ones_like(hit, bool)} | groups(people, skeleton.keypoint_names)
    masks = {part: mask for part, mask in masks.items() if (~np.isnan(hit[mask])).any()}
    kinds = error_kinds(keypoints, people, skeleton)
    return {
        "joints": {joint: float(np.nanmean(values)) for joint, values, there in labelled if there},
        "groups": {part: float(np.nanmean(hit[mask])) for part, mask in masks.items()},
        "groups_fine": {part: float(np.nanmean(fine[mask])) for part, mask in masks.items()},
        "errors": {kind: float((kinds == i).sum()) for i, kind in enumerate(KINDS)},
    }


def over_seeds(measured: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Lists over seeds, but for joints their mean."""
    lists = {
        key: {name: [one[key][name] for one in measured] for name in values}
        for key, values in measured[0].items()
    }
    means = {name: round(float(np.mean(values)), 4) for name, values in lists["joints"].items()}
    return lists | {"joints": means}


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
    backbone = json.loads(json.dumps(study.about["model"]["backbone"]))
    for file in sorted(Path(__file__).parent.rglob("step_cost.json")):
        measured = json.loads(file.read_text())
        if measured["model"] == backbone:
            return measured["step_time_over_full_fine_tuning"]
    return {}


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation over seeds, x 100."""
    scaled = 100 * np.array(values)
    return f"{scaled.mean():.2f}" + (f" ± {scaled.std(ddof=1):.2f}" if len(scaled) > 1 else "")


def table(results: dict[str, dict], metric: str) -> str:
    """Markdown: accuracy, its difference from the baseline, and cost."""
    base = np.mean(results["baseline"][metric])
    second = "AP" if metric == "PCK" else "AP75"
    lines = [
        f"| row | what | {metric} (x100) | - baseline | {second} (x100) | seeds | head params | "
        "GFLOPs | step / full |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        cells = [spread(row[key]) if key in row else "" for key in (metric, second)]
        difference = 100 * (np.mean(row[metric]) - base)
        lines.append(
            f"| {name} | {row['about']} | {cells[0]} | {difference:+.2f} | {cells[1]} | "
            f"{len(row['seeds'])} | {row['head_parameters'] / 1e6:.2f} M | {row['gflops']:.3f} | "
            f"{row.get('step', '')} |"
        )
    return "\n".join(lines)


def group_table(results: dict[str, dict], groups: str) -> str:
    """Markdown: PCK of groups of joints and people."""
    parts = list(results["baseline"][groups])
    lines = ["| row | " + " | ".join(parts) + " |", "|---" * (len(parts) + 1) + "|"]
    for name, row in results.items():
        cells = [spread(row[groups][part]) for part in parts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def error_table(results: dict[str, dict]) -> str:
    """Markdown: joints by what became of them, mean over seeds."""
    lines = ["| row | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    for name, row in results.items():
        cells = [f"{np.mean(row['errors'][kind]):.0f}" for kind in KINDS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


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
    tables = [
        table(results, options.metric),
        f"\nPCK@{THRESHOLD}:\n",
        group_table(results, "groups"),
        f"\nPCK@{FINE}:\n",
        group_table(results, "groups_fine"),
        "\nJoints by kind of error:\n",
        error_table(results),
    ]
    (options.out / "table.md").write_text("\n".join(tables) + "\n")
    plot_curves(results, options.metric, options.out / "accuracy_by_step.png")
    plot_joints(results, options.out / "joints.png")
    wanted = (
        "baseline",
        "detail",
        "detail_32",
        "residual",
        "dense",
        "intermediate_3_7_11",
        "simple",
    )
    shown = [name for name in wanted if name in study.runs]
    predictions = {name: study.predictions(study.runs[name][0]) for name in shown[:3]}
    draw_pictures(study.dataset, predictions, options.out / "pictures.jpg")
    print("\n".join(tables))


if __name__ == "__main__":
    main()
