"""Seconds from `vitpose predict` on one picture to its saved result, cold and warm.

    python experiments/benchmarks/startup.py --image people.jpg [--weights FOLDER]

Each run is a new process. "cold" starts with an empty compilation cache, "warm" with that of the
run before, "off" without one. Without --weights, random ViTPose-B weights are saved in our own
format first. No detector is used: the whole picture is one person. The parts are measured in a
process of their own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import keep, random_model, table

from vitpose_jax.weights import save_pose_model

PARTS = """
import json, sys, time
began = time.perf_counter()
def lap(name):
    global began
    now = time.perf_counter(); parts[name] = now - began; began = now
parts = {}
import jax; lap("import jax")
import vitpose_jax.commands.people, vitpose_jax.inference.sinks; lap("import the rest")
from vitpose_jax import PoseEstimator
estimator = PoseEstimator.from_pretrained(sys.argv[1]); lap("load weights")
estimator.compile(1); lap("compile for one person")
estimator(sys.argv[2], detector="none"); lap("one picture")
print(json.dumps(parts))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True)
    parser.add_argument("--weights", help="folder (default: random ViTPose-B)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", help="results file (results/startup.json)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        weights = options.weights or str(Path(scratch) / "weights")
        if not options.weights:
            save_pose_model(random_model("base", "classic", "float32"), weights)
        command = [sys.executable, "-m", "vitpose_jax.cli", "predict", options.image, "--draw"]
        command += ["--weights", weights, "--detector", "none", "--out", f"{scratch}/out"]
        seconds: dict[str, list[float]] = {"cold": [], "warm": [], "off": []}
        parts = {}
        for i in range(options.repeats):
            cache = f"{scratch}/cache{i}"
            for kind in seconds:
                os.environ["VITPOSE_COMPILATION_CACHE"] = "off" if kind == "off" else cache
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[kind].append(time.perf_counter() - began)
        for kind, folder in (("cold", f"{scratch}/parts"), ("warm", f"{scratch}/parts")):
            environment = os.environ | {
                "JAX_COMPILATION_CACHE_DIR": folder,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            }
            done = subprocess.run(
                [sys.executable, "-c", PARTS, weights, options.image],
                check=True,
                capture_output=True,
                env=environment,
            )
            parts[kind] = json.loads(done.stdout.splitlines()[-1])
    rows = [
        {"cache": kind, "seconds": statistics.median(each), "best": min(each), "worst": max(each)}
        for kind, each in seconds.items()
    ]
    part_rows = [{"cache": kind} | each for kind, each in parts.items()]
    tables = {
        "From command to saved picture": table(rows, list(rows[0])),
        "Its parts, seconds": table(part_rows, list(part_rows[0])),
    }
    keep(
        "startup", {"runs": options.repeats, "rows": rows, "parts": part_rows}, tables, options.out
    )


if __name__ == "__main__":
    main()
