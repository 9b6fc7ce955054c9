"""Cost of inference with each neck against the plain model, side by side, at the size of ViT-B.

    python experiments/fpn_study/inference_cost.py --out experiments/fpn_study/inference_cost.json

Random weights. All models take turns in one process; figures are medians over the rounds, as ratios
to the model without a neck: of wall-clock time, and of the process's CPU time, which other work on
the machine disturbs less.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs import fpn
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.prediction import PredictionOptions, prediction_program
from vitpose_jax.tasks.pose_settings import PoseSettings, pose_config
from vitpose_jax.training.settings import read_part

ROWS = ("head_baseline", "residual", "detail", "dense", "intermediate_3_7_11", "simple")


def build(row: str, dtype: str) -> PoseModel:
    settings = read_part(PoseSettings, fpn.get_config(f"{row},synthetic"))
    config = pose_config(settings, SKELETONS["coco"])
    return nnx.jit(lambda: PoseModel(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0)))()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=ROWS[:3], choices=ROWS)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    size = options.batch_size
    batch = {
        "crop": rng.integers(0, 255, (size, 256, 192, 3), np.uint8),
        "center": np.full((size, 2), 100, np.float32),
        "scale": np.ones((size, 2), np.float32),
    }
    program = prediction_program(jnp.dtype(options.dtype), size)
    runs, gflops = {}, {}
    for row in options.rows:
        graph, state = nnx.split(build(row, options.dtype))
        flops = program.lower(graph, state, batch, PredictionOptions()).cost_analysis()["flops"]
        runs[row], gflops[row] = (graph, state), round(flops / 1e9 / size, 2)
    seconds: dict[str, list[tuple[float, float]]] = {row: [] for row in runs}
    for turn in range(options.rounds + 1):
        for row, (graph, state) in runs.items():
            start = time.perf_counter(), time.process_time()
            jax.block_until_ready(program(graph, state, batch, PredictionOptions()))
            end = time.perf_counter(), time.process_time()
            if turn:  # the first one compiles
                seconds[row].append((end[0] - start[0], end[1] - start[1]))
    medians = {row: np.median(times, axis=0) for row, times in seconds.items()}
    plain = medians["head_baseline"]
    ratios = {row: (median / plain).round(3).tolist() for row, median in medians.items()}
    report = {
        "model": "ViT-B, 256x192, random weights",
        "device": jax.devices()[0].device_kind,
        "dtype": options.dtype,
        "batch_size": size,
        "rounds": options.rounds,
        "time_over_no_neck": {row: ratio[0] for row, ratio in ratios.items()},
        "cpu_time_over_no_neck": {row: ratio[1] for row, ratio in ratios.items()},
        "gflops_per_crop": gflops,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
