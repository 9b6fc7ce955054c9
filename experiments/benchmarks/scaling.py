"""What sharding a training step over 1, 2, 4 and 8 virtual devices costs on one machine.

    python experiments/benchmarks/scaling.py

All virtual devices share the machine's cores and the batch of all of them together stays the same,
so that nothing can get faster: time above that of one device is the price of sharding (splitting,
summing gradients, statistics of batch norm over the whole batch, threads in each other's way). How
real devices scale this does not tell.
"""

import argparse
import dataclasses
import os

if __name__ == "__main__":
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from harness import keep, race, table
from jax.sharding import Mesh
from training_step import pose_step

from vitpose_jax.models.vit import VIT_SIZES
from vitpose_jax.training.sharding import AXIS

COUNTS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4, help="blocks of ViTPose-S (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="results file (results/scaling.json)")
    options = parser.parse_args()
    backbone = dataclasses.replace(VIT_SIZES["small"], depth=options.depth)
    steps = {}
    for count in COUNTS:
        mesh = Mesh(np.asarray(jax.devices()[:count]), (AXIS,))
        steps[count], _ = pose_step(backbone, options.batch, "float32", False, mesh)
    times = race({str(count): step for count, step in steps.items()}, options.repeats)
    alone = times["1"]
    rows = [
        {
            "devices": count,
            "samples/s": options.batch / each["median"],
            "best": options.batch / each["best"],
            "spread": each["spread"],
            "time / time of one": each["median"] / alone["median"],
            "processor time / of one": each["processor"] / alone["processor"],
            "compile s": steps[count].compile_seconds,
        }
        for count, each in ((count, times[str(count)]) for count in COUNTS)
    ]
    title = f"A full training step, width 384, {options.depth} blocks, batch {options.batch}"
    result = {"options": vars(options), "rows": rows}
    keep("scaling", result, {title: table(rows, list(rows[0]))}, options.out)


if __name__ == "__main__":
    main()
