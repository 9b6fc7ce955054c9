"""Exported models beside the library: crops to keypoints, with the flip test, in one process.

    python experiments/benchmarks/exported.py --sizes small base --batches 1 8

`ratio` is the library's time over the exported model's: above 1, the exported one is faster.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import keep, race, random_model, table

from vitpose_jax.export.certificate import probe_people
from vitpose_jax.export.writing import export_pose
from vitpose_jax.inference.artefact import read_artefact
from vitpose_jax.inference.exported import ExportedNetwork
from vitpose_jax.inference.model_network import ModelNetwork
from vitpose_jax.inference.network import Network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sizes", nargs="+", default=["small", "base"])
    add("--decoder", default="classic", choices=("classic", "simple"))
    add("--batches", nargs="+", type=int, default=[1, 8])
    add("--repeats", type=int, default=7)
    add("--out", help="results file (results/exported.json)")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            model = random_model(size, options.decoder, "float32")
            networks: dict[str, Network] = {"vitpose_jax": ModelNetwork(model)}
            for runtime in ("onnx", "stablehlo"):
                path = Path(folder) / f"{size}.{runtime}"
                export_pose(model, path, runtime, source=size)
                networks[runtime] = ExportedNetwork(read_artefact(path))
            for batch in options.batches:
                rows += measure(size, batch, networks, options.repeats)
    tables = {"Crops to keypoints, float32, flip test": table(rows, list(rows[0]))}
    keep("exported", {"options": vars(options), "rows": rows}, tables, options.out)


def measure(
    size: str, batch: int, networks: dict[str, Network], repeats: int
) -> list[dict[str, Any]]:
    """One row for each runtime."""
    people = probe_people(networks["vitpose_jax"].input_size)
    inputs = {name: np.resize(x, (batch, *x.shape[1:])) for name, x in people.items()}

    def runner(network: Network) -> Any:
        return lambda: [np.asarray(array) for array in network.run(**inputs)]

    times = race({name: runner(network) for name, network in networks.items()}, repeats)
    rows = []
    for name, each in times.items():
        ratio = times["vitpose_jax"]["best"] / each["best"]
        row = {"size": size, "batch": batch, "runtime": name, "people/s": batch / each["median"]}
        row |= {"best": batch / each["best"], "spread": each["spread"], "ratio of best": ratio}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


if __name__ == "__main__":
    main()
