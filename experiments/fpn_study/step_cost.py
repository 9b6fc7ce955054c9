"""Cost of a training step: heads on the frozen backbone against full fine-tuning, side by side.

    python experiments/fpn_study/step_cost.py --weights weights/vitpose-b --out step_cost.json

`report.py` puts these figures into the tables of studies of the same model, if they are in a
step_cost.json in or below this folder.

All rows' steps take turns in one process, so that what else the machine does hits them alike; the
figures are medians over the rounds, as ratios to full fine-tuning: of wall-clock time, and of the
process's CPU time, which other work on the machine disturbs less.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.fpn_study.rows import ROWS, configuration
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.tasks.pose import pose_loss
from vitpose_jax.tasks.pose_settings import PoseSettings, pose_config
from vitpose_jax.training.optimizer import label_parameters, make_optimizer
from vitpose_jax.training.settings import read_part
from vitpose_jax.training.state import create_state, split_model
from vitpose_jax.training.step import make_train_step
from vitpose_jax.weights import load_pose_model

MEASURED = tuple(name for name in ROWS if name not in ("baseline", "longer"))  # not heads


def prepare(name: str, model_config, frozen: bool, recipe: str):
    """(compiled step, state) of a row; `frozen` False trains the backbone too."""
    config = configuration(ROWS[name], "synthetic", "", model_config, 0, recipe)
    config.frozen = config.frozen if frozen else ()
    config.drop_in_frozen = False
    settings = read_part(PoseSettings, config)
    dataset = open_pose_dataset("synthetic", "train", input_size=model_config.input_size)
    model = PoseModel(pose_config(settings, dataset.skeleton), rngs=nnx.Rngs(0))
    graph, parameters, other = split_model(model)
    labels = label_parameters(parameters, frozen=settings.frozen)
    trained = {key: label for key, label in labels.items() if label.trainable}
    update = make_optimizer("adamw", trained, lambda step: 1e-4, weight_decay=0.1)

    def loss_fn(model, batch, key):
        return pose_loss(model, batch, key, settings)

    step = jax.jit(make_train_step(graph, loss_fn, update), donate_argnums=0)
    return step, create_state(parameters, other, labels, update, False)


def random_batch(size: int, input_size: tuple[int, int], keypoints: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "crop": rng.integers(0, 255, (size, *input_size, 3), np.uint8),
        "crop_xy": rng.uniform(0, 90, (size, keypoints, 2)).astype(np.float32),
        "visible": np.ones((size, keypoints), np.float32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", nargs="+", choices=MEASURED, default=MEASURED, metavar="ROW")
    parser.add_argument("--recipe", choices=["original", "small", "detail"], default="small")
    options = parser.parse_args()
    model_config = load_pose_model(options.weights).config
    batch = random_batch(options.batch_size, model_config.input_size, 17)
    key = jax.random.key(0)
    steps = {"full fine-tuning": prepare("head_baseline", model_config, False, options.recipe)}
    steps |= {n: prepare(n, model_config, True, options.recipe) for n in options.rows}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(options.rounds + 1):
        for name, (step, state) in steps.items():
            start = time.perf_counter(), time.process_time()
            state, metrics = step(state, batch, key)
            jax.block_until_ready((state, metrics))
            end = time.perf_counter(), time.process_time()
            steps[name] = (step, state)
            if turn:  # the first one compiles
                seconds[name].append((end[0] - start[0], end[1] - start[1]))
    medians = {name: np.median(times, axis=0) for name, times in seconds.items()}
    full = medians["full fine-tuning"]
    ratios = {name: (median / full).round(3).tolist() for name, median in medians.items()}
    report = {
        "model": model_config.to_dict()["backbone"],
        "device": jax.devices()[0].device_kind,
        "batch_size": options.batch_size,
        "rounds": options.rounds,
        "step_time_over_full_fine_tuning": {name: ratio[0] for name, ratio in ratios.items()},
        "cpu_time_over_full_fine_tuning": {name: ratio[1] for name, ratio in ratios.items()},
        "full_fine_tuning_seconds": round(float(full[0]), 3),
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
