"""Where the time of the network goes: a trace of a few calls, summed by kind of operation.

    python experiments/benchmarks/breakdown.py [--dtype bfloat16] [--trace FOLDER]

Times are those of all threads added, in shares of the processor time of the same calls. On CPUs the
trace holds XLA's own loops and YNNPACK's fused kernels; products and convolutions run on threads
that it does not see, so they, and threads that wait, are what is left of the whole. The folder
given to --trace opens in Perfetto or TensorBoard.
"""

import argparse
import collections
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from harness import keep, race, random_model, table
from inference import ours

from vitpose_jax.models.vit import VIT_SIZES

CALLS = 3
UNSEEN = ("dot", "conv_general_dilated")  # only their start is on the trace of a CPU
REST = "products and convolutions (what is left)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base", choices=VIT_SIZES)
    parser.add_argument("--decoder", default="classic", choices=("classic", "simple"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--trace", help="keep the trace in this folder")
    parser.add_argument("--out", help="results file (results/breakdown.json)")
    options = parser.parse_args()

    crops = np.random.default_rng(0).standard_normal((options.batch, 256, 192, 3), np.float32)
    run = ours(random_model(options.size, options.decoder, options.dtype), crops, flip=False)
    seconds = race({"run": run}, 5)["run"]["median"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.trace or scratch)
        with jax.profiler.trace(str(folder)):
            began, began_processor = time.perf_counter(), time.process_time()
            for _ in range(CALLS):
                jax.block_until_ready(run())
            traced = time.perf_counter() - began, time.process_time() - began_processor
        on_cpu = jax.default_backend() == "cpu"
        rows = by_kind(operation_times(folder), traced[on_cpu] / CALLS)
    title = f"One call: {options.size}, {options.decoder}, batch {options.batch}, {options.dtype}"
    columns = ["kind", "ms", "share", "operations"]
    result = {"options": vars(options), "seconds": seconds, "rows": rows}
    keep("breakdown", result, {title: table(rows, columns)}, options.out)


def operation_times(folder: Path) -> dict[str, float]:
    """Seconds of each operation of the program, per call."""
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    times: dict[str, float] = collections.defaultdict(float)
    for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" in stats:
                    times[str(stats["hlo_op"])] += event.duration_ns * 1e-9 / CALLS
    return times


def by_kind(times: dict[str, float], whole: float) -> list[dict]:
    """Rows of the table, longest first; operations are called by XLA after what was fused."""
    seconds: dict[str, float] = collections.defaultdict(float)
    counts: dict[str, int] = collections.defaultdict(int)
    for name, value in times.items():
        kind = name.split(".")[0]
        if jax.default_backend() == "cpu" and kind in UNSEEN:
            counts[REST] += 1
            continue
        seconds[kind] += value
        counts[kind] += 1
    if jax.default_backend() == "cpu":
        seconds[REST] = whole - sum(seconds.values())
    return [
        {"kind": kind, "ms": 1e3 * value, "share": value / whole, "operations": counts[kind]}
        for kind, value in sorted(seconds.items(), key=lambda item: -item[1])
    ]


if __name__ == "__main__":
    main()
