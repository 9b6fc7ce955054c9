"""Images per second of the network alone, and from JPEG to keypoints, next to its peers.

    python experiments/benchmarks/inference.py
    python experiments/benchmarks/inference.py --sizes small base large --batches 1 8 32 \\
        --images ../shared/data/coco-mini

Everything runs on the same random weights, turn by turn in one process. `share` is the work of the
network as published over what the device's largest measured matrix product of that type would do
in the time. `deviation` is the largest difference of the heatmaps from transformers' in float32,
over their largest value, and `moved` the pixels of the crop by which the decoded keypoints moved
(middle and 95th percentile); random weights give flat heatmaps with many near-equal peaks, so that
these are far larger than on trained weights (--weights takes some).
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers
from flax import nnx
from harness import backbone_flops, decoder_flops, keep, measured_peak, race, table

from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.program import matrices_in
from vitpose_jax.keypoints.decoding import decode_heatmaps, flip_average
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models.backends import compiler_options
from vitpose_jax.models.pose import PoseModel

COLUMNS = ["size", "decoder", "batch", "dtype", "flip", "runner", "images/s", "best", "spread"]
COLUMNS += ["processor s/image", "share", "deviation", "moved"]
FLIP_INDEX = SKELETONS["coco"].flip_index
NEEDED = {
    "transformers": ("transformers", "torch"),
    "compile": ("transformers", "torch"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript", "transformers", "torch"),
}


def ours(model: PoseModel, crops: np.ndarray, flip: bool) -> Callable[[], jax.Array]:
    """Our heatmaps of crops (B, H, W, 3), compiled as `PoseEstimator` does."""
    graph, state = nnx.split(model)
    state = matrices_in(state, model.dtype)

    def heatmaps(state: nnx.State, crops: jax.Array) -> jax.Array:
        model = nnx.merge(graph, state)
        if not flip:
            return model(crops)
        both = model(jnp.concatenate([crops, crops[:, :, ::-1]]))
        return flip_average(*jnp.split(both, 2), FLIP_INDEX)

    crops = jnp.asarray(crops)
    compiler = compiler_options(model.dtype, len(crops) * (2 if flip else 1))
    run = jax.jit(heatmaps, compiler_options=compiler)
    return lambda: run(state, crops)


def model_alone(options: argparse.Namespace, peak: dict[str, float]) -> list[dict[str, Any]]:
    """One row for each size, batch, type, with and without flip test, and each peer."""
    rows = []
    for size in options.sizes:
        reference = peers.transformers_model(size, options.decoder)
        models = peers.same_weights(reference, tuple(options.dtypes))
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
    points = _keypoints(reference)
    rows = []
    for key, times in race(runners, options.repeats).items():
        moved = np.linalg.norm(_keypoints(outputs[key]) - points, axis=-1)
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
                "moved": f"{np.median(moved):.2g}, {np.percentile(moved, 95):.2g}",
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


def _keypoints(heatmaps: np.ndarray) -> np.ndarray:
    """Crop pixels (B, K, 2)."""
    return np.asarray(decode_heatmaps(jnp.asarray(heatmaps))[0]) * np.array([191 / 47, 255 / 63])


def end_to_end(options: argparse.Namespace) -> list[dict[str, Any]]:
    """From JPEG files and their boxes to keypoints, without flip test and (--flip) with it."""
    items = _annotated_people(Path(options.images))[: options.limit]
    count = sum(len(boxes) for _, boxes in items)
    reference = peers.transformers_model(options.sizes[0], options.decoder)
    models = peers.same_weights(reference, tuple(options.dtypes))
    rows = []
    for flip in (False, True) if options.flip else (False,):
        runners = {LOOP: peers.photographs(reference, items, flip)}
        estimators = {}
        for dtype, model in models.items():
            estimator = PoseEstimator(model, flip_test=flip)
            name = f"vitpose_jax {dtype}, batch {estimator.batch_size}"
            estimators[name], runners[name] = estimator, _stream(estimator, items)
        times = race(runners, max(options.repeats // 2, 2))
        for name, each in times.items():
            row = {
                "decoder": options.decoder,
                "flip": flip,
                "runner": name,
                "images/s": len(items) / each["median"],
                "people/s": count / each["median"],
                "best": count / each["best"],
                "spread": each["spread"],
                "processor s/person": each["processor"] / count,
                "ratio": times[LOOP]["median"] / each["median"],
                "compiled": len(estimators[name].programs) if name in estimators else None,
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


LOOP = "transformers loop float32"


def _annotated_people(folder: Path) -> list[tuple[str, list]]:
    """(path, boxes) of each validation image of a COCO-layout folder that shows somebody."""
    annotations = json.loads((folder / "annotations" / "person_keypoints_val2017.json").read_text())
    files = {image["id"]: image["file_name"] for image in annotations["images"]}
    boxes: dict[str, list] = {}
    for person in annotations["annotations"]:
        if person["num_keypoints"] and not person["iscrowd"]:
            path = str(folder / "val2017" / files[person["image_id"]])
            boxes.setdefault(path, []).append(person["bbox"])
    return list(boxes.items())


def _stream(estimator: PoseEstimator, items: list) -> Callable[[], None]:
    def run() -> None:
        for _ in estimator.stream(items, keep_images=False):
            pass

    return run


def trained_effect(options: argparse.Namespace) -> list[dict[str, Any]]:
    """By how much bfloat16 moves the keypoints of trained weights, on photographs."""
    people = [
        (path, [box]) for path, boxes in _annotated_people(Path(options.images)) for box in boxes
    ][: options.limit]
    found = {}
    for dtype in ("float32", "bfloat16"):
        estimator = PoseEstimator.from_pretrained(options.weights, dtype)
        found[dtype] = [p.people[0] for p in estimator.stream(people)]
    size = np.array([max(person.box[2:]) for person in found["float32"]])
    xy = {dtype: np.stack([p.keypoints for p in each]) for dtype, each in found.items()}
    seen = np.stack([p.keypoint_scores for p in found["float32"]]) > 0.2
    moved = np.linalg.norm(xy["float32"] - xy["bfloat16"], axis=-1)
    share = (moved / size[:, None])[seen]
    return [
        {
            "keypoints": int(seen.sum()),
            "median px": float(np.median(moved[seen])),
            "95% px": float(np.percentile(moved[seen], 95)),
            "largest px": float(moved[seen].max()),
            "95% of the box": float(np.percentile(share, 95)),
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sizes", nargs="+", default=["base"], choices=("small", "base", "large", "huge"))
    add("--decoder", default="classic", choices=("classic", "simple"))
    add("--batches", nargs="+", type=int, default=[8])
    add("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    add("--flip", action="store_true", help="also with the flip test")
    add("--peers", nargs="*", default=["transformers", "onnxruntime"])
    add("--repeats", type=int, default=7)
    add("--images", help="a COCO-layout folder: time its validation images end to end")
    add("--limit", type=int, default=48, help="images, or people, of it (%(default)s)")
    add("--weights", help="trained weights: the effect of bfloat16 on --images")
    add("--only", choices=("model", "end_to_end", "effect"), help="only this part")
    add("--out", help="results file (results/inference.json)")
    options = parser.parse_args()
    if "float32" not in options.dtypes:
        options.dtypes = ["float32", *options.dtypes]
    missing = [p for p in options.peers if not all(map(importlib.util.find_spec, NEEDED[p]))]
    for peer in missing:
        print(f"left out: {peer} (pip install {' '.join(NEEDED[peer])})")
    options.peers = [p for p in options.peers if p not in missing]

    began = time.perf_counter()
    peak = {dtype: measured_peak(dtype) for dtype in options.dtypes}
    result: dict[str, Any] = {"peak TFLOP/s": {k: v / 1e12 for k, v in peak.items()}}
    tables = {}
    if options.only in (None, "model"):
        result["model"] = model_alone(options, peak)
        tables["The network alone"] = table(result["model"], COLUMNS)
    if options.images and options.only in (None, "end_to_end"):
        result["end to end"] = end_to_end(options)
        tables["From JPEG to keypoints"] = table(
            result["end to end"], list(result["end to end"][0])
        )
    if options.weights and options.images and options.only in (None, "effect"):
        result["effect of bfloat16"] = trained_effect(options)
        rows = result["effect of bfloat16"]
        tables["Effect of bfloat16 on trained weights"] = table(rows, list(rows[0]))
    result["seconds"] = time.perf_counter() - began
    peaks = ", ".join(f"{dtype} {value / 1e12:.3g}" for dtype, value in peak.items())
    tables = {"Measured peak, TFLOP/s": peaks} | tables
    keep("inference", result, tables, options.out)


if __name__ == "__main__":
    main()
