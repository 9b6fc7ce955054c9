"""What the benchmarks share: fair timing, the measured peak, work counted, results kept."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vitpose_jax.models.backends import compiler_options, product_dtype
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import VIT_SIZES, ViTConfig

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "onnxruntime", "numpy")
PACKAGES += ("opencv-python-headless", "grain", "array_record", "vitpose-jax")
PAUSE = 0.05  # seconds: worker threads of one library stop spinning before the next one starts


def race(
    candidates: Mapping[str, Callable[[], Any]], repeats: int, calls: int = 1
) -> dict[str, dict[str, float]]:
    """Time functions turn by turn, so that whatever else the machine does strikes all alike.

    Args:
        candidates: functions that return when their work is done (or started, with `calls` above 1:
            what they return last is waited for).
        repeats: rounds after one that does not count.
        calls: calls per timing, for devices whose work is short against its start.

    Returns:
        for each: seconds a call, `median`, `best` and `spread` (quarter to three-quarter range over
        the median), and `processor`, the least processor time of all threads.
    """
    wall: dict[str, list[float]] = {name: [] for name in candidates}
    processor: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        _wait(run())
    for _ in range(repeats):
        for name, run in candidates.items():
            time.sleep(PAUSE)
            began, began_processor = time.perf_counter(), time.process_time()
            for _ in range(calls):
                result = run()
            _wait(result)
            wall[name].append((time.perf_counter() - began) / calls)
            processor[name].append((time.process_time() - began_processor) / calls)
    return {
        name: {
            "median": statistics.median(times),
            "best": min(times),
            "spread": _spread(times),
            "processor": min(processor[name]),
        }
        for name, times in wall.items()
    }


def _wait(result: Any) -> None:
    """Until JAX's, or a GPU's PyTorch, is done."""
    jax.block_until_ready(result)
    if type(result).__module__.startswith("torch") and result.is_cuda:
        import torch

        torch.cuda.synchronize()


def _spread(times: Sequence[float]) -> float:
    if len(times) < 4:
        return (max(times) - min(times)) / statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4)
    return (high - low) / statistics.median(times)


def measured_peak(dtype: str, repeats: int = 5) -> float:
    """FLOP/s of large products of random square matrices in `dtype`: the best of sizes and runs.

    int8 is summed up in int32.
    """
    on_cpu = jax.default_backend() == "cpu"
    sides, length = ((1536, 2048, 3072), 2) if on_cpu else ((8192,), 20)

    result = jnp.int32 if dtype == "int8" else product_dtype(dtype)

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, preferred_element_type=result)

    best = 0.0
    for side in sides:
        keys = jax.random.split(jax.random.key(0))
        left, right = (jax.random.normal(key, (side, side)).astype(dtype) for key in keys)
        run = jax.jit(product, compiler_options=compiler_options(dtype, images=side))
        with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
            times = race({"product": partial(run, left, right)}, repeats, length)["product"]
        best = max(best, 2 * side**3 / times["best"])
    return best


def random_model(size: str, decoder: str, dtype: str) -> PoseModel:
    """Seeded random weights, the same for every type, large enough for heatmaps to have peaks."""
    backbone = VIT_SIZES[size]
    config = PoseConfig(
        backbone, DecoderConfig(decoder, in_channels=backbone.width), dataset="coco"
    )
    model = PoseModel(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    keys = nnx.Rngs(1)
    for path, parameter in nnx.state(model, nnx.Param).flat_state():
        if path[-1] == "kernel":
            fan_in = math.prod(parameter.shape[:-1])
            drawn = jax.random.normal(keys(), parameter.shape) * fan_in**-0.5
            parameter[...] = drawn.astype(parameter.dtype)
    return model


def backbone_flops(config: ViTConfig) -> float:
    """Floating-point operations of one crop: two for each multiplication of the products."""
    tokens = config.grid_size[0] * config.grid_size[1]
    width = config.width
    dense = tokens * width * (4 * width + 2 * config.mlp_width)
    attention = 2 * tokens * tokens * width
    patches = tokens * 3 * config.patch_size**2 * width
    return 2.0 * (config.depth * (dense + attention) + patches)


def decoder_flops(config: PoseConfig) -> float:
    """Of one crop through the decoder as published (a shortcut of ours does not count)."""
    rows, columns = config.backbone.grid_size
    decoder = config.decoder
    if decoder.kind == "simple":
        height, width = config.heatmap_size
        return 2.0 * height * width * 9 * decoder.in_channels * decoder.num_keypoints
    total, pixels, channels = 0.0, rows * columns, decoder.in_channels
    for filters in decoder.filters:
        total += 2.0 * pixels * 16 * channels * filters
        pixels, channels = pixels * 4, filters
    return total + 2.0 * pixels * channels * decoder.num_keypoints


def environment() -> dict[str, Any]:
    """Machine, versions, date, and the commit of this code ("+" where it was changed since)."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "device": device.device_kind,
        "backend": jax.default_backend(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": versions,
    }


def _commit() -> str | None:
    code = ["vitpose_jax", "experiments/benchmarks/*.py"]
    try:
        head, changed = (
            subprocess.run(
                ["git", *command],
                cwd=RESULTS.parents[2],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", *code])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changed)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Markdown; a column that a row does not have is left blank."""
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    lines += [f"| {' | '.join(_cell(row.get(name)) for name in columns)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def keep(name: str, result: dict[str, Any], tables: Mapping[str, str], out: str | None) -> None:
    """Write results/`name`.json and .md (or beside `out`), and print the tables.

    Where a result was written is left out of its `options`.
    """
    if "options" in result:
        kept = {option: value for option, value in result["options"].items() if option != "out"}
        result = {**result, "options": kept}
    path = Path(out) if out else RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), **result}, indent=1) + "\n")
    where = environment()
    text = f"{where['date']}, {where['device']}, {where['processor']}, {where['cores']} cores\n"
    text += ", ".join(f"{name} {version}" for name, version in where["versions"].items()) + "\n"
    for title, body in tables.items():
        text += f"\n{title}\n\n{body}\n"
    path.with_suffix(".md").write_text(text)
    print(text)
