"""Runs the rows of the feature-pyramid study, one after another, on from where it stopped.

    python experiments/fpn_study/run.py --data coco --weights weights/vitpose-b --out runs/study
    python experiments/fpn_study/run.py --data data/lspet-coco --weights weights/lspet-small \
        --out runs/study_lspet --recipe small --share-features
    python experiments/fpn_study/run.py --data synthetic-solo --weights weights/solo \
        --out runs/detail_solo --recipe detail --steps 600 --share-features --shared-steps 400

Each run is a folder under --out that `vitpose_jax.main` could have made; what a finished one came
to is in its result.json. report.py turns these into tables, plots and pictures.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for `configs`

from experiments.fpn_study.features import on_features
from experiments.fpn_study.rows import ROWS, configuration
from experiments.fpn_study.wide_decoder import widen_into
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError
from vitpose_jax.tasks import run
from vitpose_jax.tasks.pose import build_problem, open_data
from vitpose_jax.tasks.pose_evaluation import PoseEvaluation
from vitpose_jax.tasks.pose_settings import PoseSettings
from vitpose_jax.training import loop
from vitpose_jax.training.metrics_log import read_metrics
from vitpose_jax.training.settings import RunLength, RunSettings, read_part
from vitpose_jax.weights import load_pose_model

EVALUATIONS = 4  # of a row whose length is given in steps


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="data set, as in configurations")
    parser.add_argument("--weights", required=True, help="pretrained ViTPose with its decoder")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--recipe", choices=["original", "small", "detail"], default="original")
    parser.add_argument("--epochs", type=float, default=30.0)
    parser.add_argument("--steps", type=int, help="instead of --epochs, on all images")
    parser.add_argument(
        "--share", type=float, default=0.1, help="of the training images (default: a tenth)"
    )
    parser.add_argument(
        "--share-features",
        action="store_true",
        help="keep the frozen backbone's maps on disk, for all rows of a seed",
    )
    parser.add_argument(
        "--shared-steps",
        type=int,
        default=0,
        help="with --share-features: maps of so many batches for all seeds, each in its own order",
    )
    return parser.parse_args(argv)


def run_row(name: str, seed: int, options: argparse.Namespace, model_config) -> dict:
    """One training run; its result, from disk where it is finished."""
    folder = options.out / f"{name}_seed{seed}"
    if (folder / "result.json").exists():
        return json.loads((folder / "result.json").read_text())
    row = ROWS[name]
    config = configuration(row, options.data, options.weights, model_config, seed, options.recipe)
    set_length(config, options)
    task = build_problem(config)
    if row.wider != 1:
        widen_into(task.model, load_pose_model(options.weights))
    evaluation = None
    if options.share_features:
        val = open_pose_dataset(options.data, "val", input_size=task.model.config.input_size)
        steps = RunLength(read_part(RunSettings, config), task.train_size).total
        folder_of_maps, shared = options.out / "features", options.shared_steps
        task, evaluation = on_features(task, config, val, steps, folder_of_maps, shared)
    started = time.time()
    if name == "baseline":
        folder.mkdir(parents=True, exist_ok=True)
        metrics, model = task.evaluate(task.model), task.model
    else:
        metrics, model = loop.train(task, config, folder), None
    predictions = evaluation.predictions if evaluation else _predictions(config, folder, model)
    np.savez_compressed(
        folder / "predictions.npz",
        keypoints=predictions.keypoints,
        scores=predictions.scores,
        person_ids=predictions.person_ids,
        image_ids=predictions.image_ids,
    )
    curve = [
        {"step": r["step"]} | {k[5:]: v for k, v in r.items() if k.startswith("eval/")}
        for r in read_metrics(folder)
        if any(k.startswith("eval/") for k in r)
    ]
    result = {"row": name, "seed": seed, "metrics": metrics, "curve": curve}
    result["minutes"] = round((time.time() - started) / 60, 2)
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def set_length(config, options: argparse.Namespace) -> None:
    """How long a row trains, and on which share of the images."""
    if options.steps:
        config.epochs, config.steps, config.train_share = None, options.steps, 1.0
        config.eval_every = config.checkpoint_every = options.steps // EVALUATIONS
        return
    config.epochs, config.train_share = options.epochs, options.share
    if config.schedule.kind == "step":
        config.schedule.milestones = tuple(m / 210 * options.epochs for m in (170, 200))


def _predictions(config, folder: Path, model):
    """Of the run's last checkpoint, where the loop evaluated on crops."""
    settings = read_part(PoseSettings, config)
    model = model or run.load_trained(folder, "latest")[1]
    return PoseEvaluation(open_data(settings, "val"), settings.eval).predict(model)


def main() -> int:
    options = parse()
    run.log_plainly()
    options.out.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(options.out.absolute() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    try:
        model_config = load_pose_model(options.weights).config
        about = {
            "data": options.data,
            "weights": options.weights,
            "recipe": options.recipe,
            "epochs": options.epochs,
            "steps": options.steps,
            "share": options.share,
            "model": model_config.to_dict(),
        }
        (options.out / "study.json").write_text(json.dumps(about, indent=1) + "\n")
        runs = [(name, seed) for name in options.rows for seed in options.seeds]
        for name, seed in tqdm(runs, unit="run", disable=None):
            if name == "baseline" and seed != options.seeds[0]:
                continue  # nothing in it is random
            result = run_row(name, seed, options, model_config)
            shown = {k: round(v, 4) for k, v in result["metrics"].items() if "/" not in k}
            print(f"{name} seed {seed}: {shown} in {result['minutes']} min", flush=True)
    except UserError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
