"""What a person costs the host from JPEG files and boxes to keypoints, the network taken out.

    python experiments/benchmarks/host.py --images FOLDER [--workers 16]

`PoseEstimator.stream` over the annotated people of a COCO-layout folder's validation images, again
and again, in batches of 64 with a function in the network's place that knows the answer: reading,
cutting, batching and handing out are left. "launching" is the thread that sends batches to the
device, which is what bounds the rate however many cores there are.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from harness import keep, random_model, table
from inference import annotated_people

from vitpose_jax.inference import preparation
from vitpose_jax.inference.estimator import PoseEstimator

BATCH = 64
AT_LEAST = 1024  # people a round


def measure(estimator: PoseEstimator, items: list, rounds: int) -> dict[str, Any]:
    """One row of the table; a first round does not count."""
    wall, processor, launching = [], [], []
    for _ in range(rounds + 1):
        clocks = time.perf_counter, time.process_time, time.thread_time
        began = [clock() for clock in clocks]
        people = sum(len(found.people) for found in estimator.stream(items, keep_images=False))
        for times, clock, start in zip((wall, processor, launching), clocks, began, strict=True):
            times.append((clock() - start) / people)
    return {
        "workers": preparation.WORKERS,
        "people": people,
        "people/s": 1 / statistics.median(wall[1:]),
        "slowest": 1 / max(wall[1:]),
        "fastest": 1 / min(wall[1:]),
        "processor ms/person": 1e3 * statistics.median(processor[1:]),
        "of that launching": 1e3 * statistics.median(launching[1:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="a folder in COCO's layout")
    parser.add_argument("--workers", type=int, nargs="+", default=[preparation.WORKERS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="results file (results/host.json)")
    options = parser.parse_args()
    once = annotated_people(Path(options.images))
    items = once * -(-AT_LEAST // sum(len(boxes) for _, boxes in once))

    estimator = PoseEstimator(random_model("base", "classic", "float32"), batch_size=BATCH)
    for size in (BATCH, 1):
        known = jnp.zeros((size, 17, 2)), jnp.zeros((size, 17))
        estimator.network.programs[size] = lambda *_, known=known: known
    rows = []
    for workers in options.workers:
        preparation.WORKERS = workers
        rows.append(measure(estimator, items, options.rounds))
    result = {"options": vars(options), "rows": rows}
    keep(
        "host",
        result,
        {"From JPEG to keypoints without a network": table(rows, list(rows[0]))},
        options.out,
    )


if __name__ == "__main__":
    main()
