"""The forecasting study: trains what is not trained yet, then writes tables, plots and GIFs.

    python experiments/forecast_study/run.py --data data/3dpw --runs runs/forecast_study

Stopped and started again it goes on where it was; `--only NAME ..` does a part of the trainings.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from configs.forecast_3dpw import get_config  # noqa: E402
from experiments.forecast_study import original, pictures  # noqa: E402
from experiments.forecast_study.by_motion import errors_by_motion  # noqa: E402
from experiments.forecast_study.cameras import with_known_cameras  # noqa: E402
from experiments.forecast_study.floor import noise_floor, parts_of_error  # noqa: E402
from vitpose_jax.tasks import run as training  # noqa: E402

log = logging.getLogger("vitpose_jax.forecast_study")

GROUPS = {  # trained with three seeds: (input, changes to the configuration)
    "ours": ("detections", {}),
    "ours, projected joints": ("projected", {}),
    "ours, 3D joints": ("joints3d", {}),
    "ours, 15 frames": ("detections", {"future": 15}),
    "ours, 30 frames": ("detections", {"future": 30}),
    "ours, 30 frames, mixture": (
        "detections",
        {"future": 30, "model.mixture": True, "synthetic": 60},
    ),
    "ours, around the pelvis": ("centred", {}),
}
SEEDS = range(3)
OURS = {
    f"{group}, seed {seed}": (kind, changes | {"seed": seed})
    for seed in SEEDS
    for group, (kind, changes) in GROUPS.items()
} | {
    "ours without other views": ("detections", {"augmentation.view": 0.0}),
}


def run_folder(name: str, runs: Path) -> Path:
    """Where one of our trainings is."""
    return runs / name.replace(",", "").replace(" ", "_")


def run_ours(name: str, data: str, runs: Path) -> dict:
    """The comparison (`evaluation.json`) of one of our trainings, which is run if need be."""
    kind, changes = OURS[name]
    folder = run_folder(name, runs)
    config = get_config(f"{data},{kind}")
    config.update_from_flattened_dict(changes)
    if not (folder / "evaluation.json").exists():
        training.train(config, folder)
    content = json.loads((folder / "evaluation.json").read_text())
    content["results"]["ours"] = content["results"].pop(str(folder))
    return {key: content[key] for key in ("split", "windows", "results")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/3dpw", help="folder with sequenceFiles")
    parser.add_argument("--runs", default="runs/forecast_study", help="folder of the trainings")
    parser.add_argument("--epochs", type=float, default=30.0, help="of the original (its own: 30)")
    parser.add_argument("--only", nargs="+", default=[*OURS, *original.TRAININGS])
    options = parser.parse_args()
    training.log_plainly()
    runs = Path(options.runs)
    results_file = HERE / "results.json"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    for name in options.only:
        log.info("== %s", name)
        if name in OURS:
            content = run_ours(name, options.data, runs)
            results.setdefault("ours", {})[name] = content
        else:
            epochs = original.run(name, options.data, runs / f"original_{name}", options.epochs)
            rows = [row for row, how in original.ROWS.items() if how[0] == name]
            found = {row: original.pick(row, epochs) for row in rows}
            results.setdefault("original", {}).update(found)
            results["original_epochs"] = options.epochs
        results_file.write_text(json.dumps(results) + "\n")
    results["noise_floor"] = noise_floor(options.data)
    exact = [run_folder(f"ours, projected joints, seed {seed}", runs) for seed in SEEDS]
    if exact[0].exists():
        results["parts"] = parts_of_error(exact[0])
    if all(run.exists() for run in exact):
        results["by_motion"] = errors_by_motion(options.data, exact)
    in_space = run_folder("ours, 3D joints, seed 0", runs)
    if in_space.exists():
        results["camera"] = with_known_cameras(options.data, in_space)
    results_file.write_text(json.dumps(results) + "\n")
    pictures.write_report(results, run_folder("ours, seed 0", runs), options.data, HERE)


if __name__ == "__main__":
    main()
