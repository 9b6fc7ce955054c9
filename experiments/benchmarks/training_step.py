"""Training steps per second, their share of the device's measured peak, and their memory.

    python experiments/benchmarks/training_step.py
    python experiments/benchmarks/training_step.py --sizes base --batch 256 --dtypes bfloat16

The steps are the project's own (`training.step`), with normalisation and targets drawn on the
device, AdamW, gradient clipping; "fpn" trains the published dense pyramid (configs/fpn_dense.py)
and its decoder over a frozen backbone. Work is counted as three times the forward pass where a part
is trained, once where it is frozen. Memory is what XLA plans for the compiled step: arguments and
temporaries.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from harness import backbone_flops, decoder_flops, keep, measured_peak, race, table
from jax.sharding import Mesh

from vitpose_jax.keypoints.encoding import encode_heatmaps
from vitpose_jax.keypoints.normalization import normalize_crops
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.forecaster import Forecaster, ForecasterConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import VIT_SIZES, ViTConfig
from vitpose_jax.tasks.losses import mean_squared_error
from vitpose_jax.training.optimizer import label_parameters
from vitpose_jax.training.sharding import device_mesh, shard_batch
from vitpose_jax.training.state import TrainState, create_state, split_model
from vitpose_jax.training.step import compile_step, make_train_step

COLUMNS = ["task", "size", "batch", "dtype", "devices", "samples/s", "best", "spread", "share"]
COLUMNS += ["memory GB", "compile s"]
TASKS = ["full", "fpn", "forecaster"]
DENSE = {
    "kind": "strided",
    "strides": (1, 2, 4, 8),
    "cumulative": True,
    "downsample": "subsample",
    "top_down": "coarsest",
    "init_std": 0.001,
}


class Step:
    """One task's compiled step on random data; calling it takes a step."""

    def __init__(
        self,
        model: nnx.Module,
        batch: dict[str, np.ndarray],
        loss: Callable,
        frozen: tuple[str, ...] = (),
        mesh: Mesh | None = None,
    ) -> None:
        self.mesh = mesh or device_mesh()
        graph, parameters, other = split_model(model)
        labels = label_parameters(parameters, frozen=frozen)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(5e-4))
        self.state: TrainState = create_state(parameters, other, labels, optimizer, ema=False)
        self.batch = shard_batch(batch, self.mesh)
        self.key = jax.random.key(0)
        step = make_train_step(graph, loss, optimizer)
        began = time.perf_counter()
        jitted = compile_step(step, self.state, self.mesh, "data")
        self.run = jitted.lower(self.state, self.batch, self.key).compile()
        self.compile_seconds = time.perf_counter() - began
        plan = self.run.memory_analysis()
        self.memory = plan.temp_size_in_bytes + plan.argument_size_in_bytes

    def __call__(self) -> jax.Array:
        self.state, metrics = self.run(self.state, self.batch, self.key)
        return metrics["loss"]


def pose_step(
    size: str | ViTConfig, batch: int, dtype: str, fpn: bool, mesh: Mesh | None = None
) -> tuple[Step, float]:
    """The step and its FLOPs; `fpn`: the pyramid over a frozen backbone, else everything."""
    backbone = VIT_SIZES[size] if isinstance(size, str) else size
    neck = NeckConfig(width=backbone.width, **DENSE) if fpn else None
    channels = neck.out_channels if neck else backbone.width
    config = PoseConfig(backbone, DecoderConfig(in_channels=channels), neck)
    model = PoseModel(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))

    def loss(model: PoseModel, batch: dict[str, jax.Array], key: jax.Array):
        crops = normalize_crops(batch["crop"], model.dtype)
        targets, weights = encode_heatmaps(
            batch["crop_xy"], batch["visible"], config.input_size, config.heatmap_size, 2.0
        )
        heatmaps = model(crops, train=True, freeze_backbone=fpn, key=key)
        return mean_squared_error(heatmaps, targets, weights), {}

    rng = np.random.default_rng(0)
    data = {
        "crop": rng.integers(0, 256, (batch, *config.input_size, 3), np.uint8),
        "crop_xy": rng.uniform(0, 190, (batch, 17, 2)).astype(np.float32),
        "visible": np.full((batch, 17), 2, np.float32),
    }
    body, head = backbone_flops(backbone), decoder_flops(config)
    if neck:
        head += _pyramid_flops(neck, backbone.grid_size)
    flops = (body if fpn else 3 * body) + 3 * head
    return Step(model, data, loss, ("backbone",) if fpn else (), mesh), flops * batch


def _pyramid_flops(neck: NeckConfig, grid: tuple[int, int]) -> float:
    """Lateral 1x1 and output 3x3 convolutions, at strides that multiply up."""
    total, stride = 0.0, 1
    for each in neck.strides:
        stride *= each
        pixels = -(-grid[0] // stride) * -(-grid[1] // stride)
        total += 2.0 * pixels * neck.width**2 * (2 + 9)
    return total


def forecast_step(batch: int) -> tuple[Step, float]:
    """A step of the forecaster on random motion; its work is too small to count."""
    config = ForecasterConfig()
    model = Forecaster(config, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    shape = (batch, config.observed, config.num_joints)
    data = {
        "observed": rng.normal(0, 50, (*shape, 2)).astype(np.float32),
        "visible": np.ones(shape, bool),
    }

    def loss(model: Forecaster, batch: dict[str, jax.Array], key: jax.Array):
        forecast = model.forecast(batch["observed"], batch["visible"])
        return jnp.square(forecast - batch["observed"][:, -1:]).mean() / 1e4, {}

    return Step(model, data, loss), float("nan")


def measure(tasks: dict[str, tuple], repeats: int, peak: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of the table; `tasks` name -> (task, size, batch, dtype)."""
    steps = {}
    for name, (task, size, batch, dtype) in tasks.items():
        make = (
            forecast_step(batch)
            if task == "forecaster"
            else pose_step(size, batch, dtype, task == "fpn")
        )
        steps[name] = make
    calls = 1 if jax.default_backend() == "cpu" else 5
    times = race({name: step for name, (step, _) in steps.items()}, repeats, calls)
    rows = []
    for name, (task, size, batch, dtype) in tasks.items():
        step, flops = steps[name]
        median = times[name]["median"]
        share = flops / median / peak[dtype] if flops == flops and dtype in peak else None
        rows.append(
            {
                "task": task,
                "size": size,
                "batch": batch,
                "dtype": dtype,
                "devices": step.mesh.size,
                "samples/s": batch / median,
                "best": batch / times[name]["best"],
                "spread": times[name]["spread"],
                "processor s": times[name]["processor"],
                "share": share,
                "memory GB": step.memory / 1e9,
                "compile s": step.compile_seconds,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sizes", nargs="+", default=["base"], choices=VIT_SIZES)
    add("--tasks", nargs="+", default=TASKS, choices=TASKS)
    add("--batch", type=int, default=8)
    add("--dtypes", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    add("--repeats", type=int, default=5)
    add("--out", help="results file (results/training_step.json)")
    options = parser.parse_args()
    peak = {dtype: measured_peak(dtype) for dtype in {"float32", *options.dtypes}}
    rows = []
    for dtype in options.dtypes:
        for size in options.sizes:
            tasks = {
                task: (task, size, options.batch, dtype)
                for task in options.tasks
                if task != "forecaster"
            }
            rows += measure(tasks, options.repeats, peak)
    if "forecaster" in options.tasks:
        small = {"forecaster": ("forecaster", "default", 256, "float32")}
        rows += measure(small, options.repeats, peak)
    tables = {
        "Measured peak, TFLOP/s": ", ".join(f"{k} {v / 1e12:.3g}" for k, v in peak.items()),
        "Training steps": table(rows, COLUMNS),
    }
    result = {"options": vars(options), "peak": peak, "rows": rows}
    keep("training_step", result, tables, options.out)


if __name__ == "__main__":
    main()
