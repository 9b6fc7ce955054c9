"""Images per second of the network alone, and from JPEG to keypoints, next to its peers.

    python experiments/benchmarks/inference.py
    python experiments/benchmarks/inference.py --sizes small base large --batches 1 8 32
    python experiments/benchmarks/inference.py --part end_to_end --flip --images FOLDER
    python experiments/benchmarks/inference.py --part effect --images synthetic-solo --weights W

Everything runs on the same random weights, turn by turn in one process. `share` is the work of the
network as published over what the device's largest measured matrix product of that type would do
in the time. `deviation` is the largest difference of the heatmaps from transformers' in float32
(from ours where that does not run), over their largest value, and `moved` the crop pixels by which
the decoded keypoints moved, middle and 95th percentile; end to end it is pixels of the picture from
ours in float32. Random weights give flat heatmaps with many near-equal peaks, so that these are far
larger than on trained weights ("effect" takes some).
"""

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # peers need memory too

import jax
import jax.numpy as jnp
import numpy as np
import peers
from flax import nnx
from harness import backbone_flops, decoder_flops, keep, measured_peak, race, random_model, table

from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.person import Person
from vitpose_jax.keypoints.decoding import decode_heatmaps
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models import vit
from vitpose_jax.models.backends import compiler_options
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.prediction import PredictionOptions, cast_matrices, predict_heatmaps

COLUMNS = ["size", "decoder", "batch", "dtype", "flip", "runner", "images/s", "best", "spread"]
COLUMNS += ["processor s/image", "share", "deviation", "moved"]
FLIP_INDEX = tuple(map(int, SKELETONS["coco"].flip_index))
TITLES = {
    "network": "The network alone",
    "end_to_end": "From JPEG to keypoints",
    "effect": "By how much bfloat16 moves the keypoints of trained weights",
}
NEEDED = {
    "transformers": ("transformers", "torch"),
    "compile": ("transformers", "torch"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript", "transformers", "torch"),
}


def models_of(size: str, options: argparse.Namespace) -> tuple[Any, dict[str, PoseModel]]:
    """transformers' network and ours with its weights for each type; without transformers none, and
    ours with random weights of their own."""
    if all(map(importlib.util.find_spec, NEEDED["transformers"])):
        reference = peers.transformers_model(size, options.decoder)
        return reference, peers.same_weights(reference, tuple(options.dtypes))
    return None, {dtype: random_model(size, options.decoder, dtype) for dtype in options.dtypes}


def ours(model: PoseModel, crops: np.ndarray, flip: bool) -> Callable[[], jax.Array]:
    """Our heatmaps of crops (B, H, W, 3), compiled as `PoseEstimator` does."""
    graph, state = nnx.split(model)
    state = cast_matrices(state, model.dtype)
    options = PredictionOptions(FLIP_INDEX if flip else None)

    def heatmaps(state: nnx.State, crops: jax.Array) -> jax.Array:
        return predict_heatmaps(nnx.merge(graph, state), crops, options)

    crops = jnp.asarray(crops)
    compiler = compiler_options(model.dtype, len(crops) * (2 if flip else 1))
    run = jax.jit(heatmaps, compiler_options=compiler)
    return lambda: run(state, crops)


def network(options: argparse.Namespace, peak: dict[str, float]) -> list[dict[str, Any]]:
    """One row for each size, batch, type, with and without flip test, and each peer."""
    rows = []
    for size in options.sizes:
        reference, models = models_of(size, options)
        for batch in options.batches:
            crops = np.random.default_rng(0).standard_normal((batch, 256, 192, 3), np.float32)
            for flip in (False, True) if options.flip else (False,):
                runners: dict[tuple[str, str], Callable[[], Any]] = {
                    (dtype, "vitpose_jax"): ours(models[dtype], crops, flip)
                    for dtype in options.dtypes
                }
                if not flip:
                    runners |= _peers(reference, crops, options)
                rows += _rows(size, batch, flip, runners, models["float32"], peak, options)
                for row in rows[-len(runners) :]:
                    print(json.dumps(row), flush=True)
    return rows


def _peers(reference: Any, crops: np.ndarray, options: argparse.Namespace) -> dict:
    runners: dict[tuple[str, str], Callable[[], Any]] = {}
    if "transformers" in options.peers:
        runners["float32", "transformers eager"] = peers.eager(reference, crops)
    if "compile" in options.peers:
        for dtype in options.dtypes:
            runners[dtype, "torch.compile"] = peers.compiled(reference, crops, dtype)
    if "onnxruntime" in options.peers:
        runners["float32", "ONNX Runtime"] = peers.onnx_runtime(reference, crops)
    return runners


def _rows(
    size: str,
    batch: int,
    flip: bool,
    runners: dict[tuple[str, str], Callable[[], Any]],
    model: PoseModel,
    peak: dict[str, float],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    flops = (backbone_flops(model.config.backbone) + decoder_flops(model.config)) * (1 + flip)
    outputs = {key: _heatmaps(run()) for key, run in runners.items()}
    reference = outputs.get(("float32", "transformers eager"), outputs["float32", "vitpose_jax"])
    points = keypoints(reference)
    rows = []
    for key, times in race(runners, options.repeats).items():
        rows.append(
            {
                "size": size,
                "decoder": options.decoder,
                "batch": batch,
                "dtype": key[0],
                "flip": flip,
                "runner": key[1],
                "images/s": batch / times["median"],
                "best": batch / times["best"],
                "spread": times["spread"],
                "processor s/image": times["processor"] / batch,
                "share": flops * batch / times["median"] / peak[key[0]],
                "deviation": float(
                    np.abs(outputs[key] - reference).max() / np.abs(reference).max()
                ),
                "moved": moved(keypoints(outputs[key]), points),
            }
        )
    return rows


def _heatmaps(output: Any) -> np.ndarray:
    """(B, h, w, K) float32, from whoever made them."""
    if isinstance(output, jax.Array):
        return np.asarray(output)
    if hasattr(output, "float"):
        output = output.float().cpu().numpy()
    return output.transpose(0, 2, 3, 1)


def keypoints(heatmaps: np.ndarray) -> np.ndarray:
    """Decoded, in crop pixels (B, K, 2)."""
    return np.asarray(decode_heatmaps(jnp.asarray(heatmaps))[0]) * np.array([191 / 47, 255 / 63])


def end_to_end(options: argparse.Namespace, _: dict[str, float]) -> list[dict[str, Any]]:
    """From JPEG files and their boxes to keypoints, without flip test and (--flip) with it."""
    items = annotated_people(Path(options.images))[: options.limit]
    count = sum(len(boxes) for _, boxes in items)
    reference, models = models_of(options.sizes[0], options)
    loops = peers.networks(reference, options.peers, options.dtypes) if reference else {}
    rows = []
    for flip in (False, True) if options.flip else (False,):
        runners = {name: peers.photographs(network, items, flip) for name, network in loops.items()}
        estimators = {}
        for dtype, model in models.items():
            estimator = PoseEstimator(model, flip_test=flip)
            name = f"vitpose_jax {dtype}, batch {estimator.batch_size}"
            estimators[name], runners[name] = estimator, _stream(estimator, items)
        found = {name: runners[name]() for name in estimators}
        exact = found[next(iter(estimators))]
        first = next(iter(runners))
        times = race(runners, max(options.repeats // 2, 2))
        for name, each in times.items():
            row = {
                "size": options.sizes[0],
                "decoder": options.decoder,
                "flip": flip,
                "runner": name,
                "images/s": len(items) / each["median"],
                "people/s": count / each["median"],
                "best": count / each["best"],
                "spread": each["spread"],
                "processor s/person": each["processor"] / count,
                "ratio": times[first]["median"] / each["median"],
                "moved": moved(found[name], exact) if name in found else None,
                "compiled": len(estimators[name].network.programs) if name in estimators else None,
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def annotated_people(folder: Path) -> list[tuple[str, list]]:
    """(path, boxes) of each validation image of a COCO-layout folder that shows somebody."""
    annotations = json.loads((folder / "annotations" / "person_keypoints_val2017.json").read_text())
    files = {image["id"]: image["file_name"] for image in annotations["images"]}
    boxes: dict[str, list] = {}
    for person in annotations["annotations"]:
        if person["num_keypoints"] and not person["iscrowd"]:
            path = str(folder / "val2017" / files[person["image_id"]])
            boxes.setdefault(path, []).append(person["bbox"])
    return list(boxes.items())


def _stream(estimator: PoseEstimator, items: list) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        predictions = estimator.stream(items, keep_images=False)
        return np.stack([person.keypoints for found in predictions for person in found.people])

    return run


def moved(points: np.ndarray, reference: np.ndarray) -> str:
    """Middle and 95th percentile of their distances; both (..., 2)."""
    distance = np.linalg.norm(points - reference, axis=-1)
    return f"{np.median(distance):.2g}, {np.percentile(distance, 95):.2g}"


def trained_effect(options: argparse.Namespace, _: dict[str, float]) -> list[dict[str, Any]]:
    """By how much bfloat16 moves the keypoints of trained weights, on validation people.

    "tanh GELU" is what a GPU works out, but for its rounding of the product before.
    """
    dataset = open_pose_dataset(options.images, "val")
    if not dataset.has_whole_images:
        raise UserError(f"{options.images} holds crops: whole images are needed")
    rows = range(min(len(dataset.people), options.limit))

    def found(dtype: str) -> list[Person]:
        estimator = PoseEstimator.from_pretrained(options.weights, dtype)
        pictures = (dataset.images.load(dataset.people, row, 1.0).pixels for row in rows)
        items = (
            (picture, dataset.people.box[row : row + 1])
            for row, picture in zip(rows, pictures, strict=True)
        )
        return [prediction.people[0] for prediction in estimator.stream(items, keep_images=False)]

    exact = found("float32")
    rounded = {"bfloat16": found("bfloat16")}
    with mock.patch.object(vit, "gelu", _tanh_gelu):
        rounded["bfloat16, tanh GELU"] = found("bfloat16")
    size = np.array([max(person.box[2:]) for person in exact])
    seen = np.stack([person.keypoint_scores for person in exact]) > 0.2
    if not seen.any():
        raise UserError(f"{options.weights} finds nothing in {options.images} with a score of 0.2")
    rows = []
    for name, persons in rounded.items():
        pairs = zip(exact, persons, strict=True)
        off = np.stack([np.linalg.norm(a.keypoints - b.keypoints, axis=-1) for a, b in pairs])
        share = (off / size[:, None])[seen]
        row = {"runner": name, "people": len(exact), "keypoints": int(seen.sum())}
        row |= {"median px": float(np.median(off[seen])), "largest px": float(off[seen].max())}
        row["95% px"], row["99% px"] = (float(np.percentile(off[seen], at)) for at in (95, 99))
        row["median of the box"] = float(np.median(share))
        row["99% of the box"] = float(np.percentile(share, 99))
        rows.append(row)
    return rows


def _tanh_gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True).astype(x.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--part", default="network", choices=TITLES)
    add("--sizes", nargs="+", default=["base"], choices=("small", "base", "large", "huge"))
    add("--decoder", default="classic", choices=("classic", "simple"))
    add("--batches", nargs="+", type=int, default=[8])
    add("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    add("--flip", action="store_true", help="also with the flip test")
    add("--peers", nargs="*", default=["transformers", "onnxruntime"], choices=NEEDED)
    add("--repeats", type=int, default=7)
    add("--images", help="end_to_end: a folder in COCO's layout; effect: that or synthetic-solo")
    add("--limit", type=int, default=300, help="images of it, effect: people (%(default)s)")
    add("--weights", help="effect: trained weights")
    add("--out", help="results file (results/inference.json, end_to_end.json, effect.json)")
    options = parser.parse_args()
    if options.part != "network" and not options.images:
        parser.error(f"--part {options.part} needs --images")
    if options.part == "effect" and not options.weights:
        parser.error("--part effect needs --weights")
    if "float32" not in options.dtypes:
        options.dtypes = ["float32", *options.dtypes]
    missing = [p for p in options.peers if not all(map(importlib.util.find_spec, NEEDED[p]))]
    for peer in missing:
        print(f"left out: {peer} (pip install {' '.join(NEEDED[peer])})")
    options.peers = [p for p in options.peers if p not in missing]

    began = time.perf_counter()
    peak = {dtype: measured_peak(dtype) for dtype in (*options.dtypes, "int8")}
    rows = {"network": network, "end_to_end": end_to_end, "effect": trained_effect}[options.part](
        options, peak
    )
    result = {
        "options": vars(options),
        "peak TFLOP/s": {dtype: value / 1e12 for dtype, value in peak.items()},
        "rows": rows,
        "seconds": time.perf_counter() - began,
    }
    peaks = ", ".join(f"{dtype} {value:.3g}" for dtype, value in result["peak TFLOP/s"].items())
    columns = COLUMNS if options.part == "network" else list(rows[0])
    tables = {"Measured peak, TFLOP/s": peaks, TITLES[options.part]: table(rows, columns)}
    keep("inference" if options.part == "network" else options.part, result, tables, options.out)


if __name__ == "__main__":
    main()
