"""Exporting a model: the file, its description, and a certificate made by running it."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.export import certificate as certify
from vitpose_jax.export.programs import (
    Program,
    forecast_program,
    network_program,
    pose_program,
)
from vitpose_jax.export.stablehlo import PLATFORMS, write_stablehlo
from vitpose_jax.files.digests import sha256
from vitpose_jax.files.pictures import ImageLike
from vitpose_jax.files.writing import make_folder, replacing, write_text
from vitpose_jax.inference.artefact import (
    FORMAT,
    FORMAT_VERSION,
    SUFFIXES,
    Artefact,
    description_of,
)
from vitpose_jax.inference.exported import RUNTIMES
from vitpose_jax.inference.model_network import ModelNetwork
from vitpose_jax.inference.preparation import BoxSource
from vitpose_jax.keypoints.decoding import DecodeMethod
from vitpose_jax.keypoints.normalization import IMAGE_MEAN, IMAGE_STD
from vitpose_jax.models.backends import portable
from vitpose_jax.models.forecaster import Forecaster
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.pose_predictor import PosePredictor
from vitpose_jax.weights.native import build_pose_model, parameter_arrays

RuntimeName = Literal["onnx", "stablehlo"]
DTYPES = {"onnx": ("float32", "float16"), "stablehlo": ("float32", "bfloat16", "float16")}
LARGEST_ONNX = 2**31 - 2**20
"""Bytes; an ONNX file is one protocol buffer, which cannot be larger than 2 GiB."""
WORST_FLOAT32 = 1e-3
"""A float32 export whose results differ by more, as a share of the largest value, is broken."""


def export_pose(
    model: PoseModel,
    path: Path,
    runtime: RuntimeName,
    *,
    source: str,
    dtype: str = "float32",
    flip_test: bool = True,
    method: DecodeMethod = "udp",
    alone: bool = False,
    pictures: Sequence[tuple[ImageLike, BoxSource]] | None = None,
) -> dict[str, Any]:
    """Export a pose model; return its description, with the certificate.

    Args:
        model: in float32, to which the exported one is compared.
        path: file to write; its description comes beside it.
        runtime: format to write.
        source: where the weights came from, for the description.
        dtype: compute type.
        flip_test, method: as for `PoseEstimator`, built in.
        alone: only the network, from normalised crops to heatmaps.
        pictures: what to compare results on, with boxes; drawn people by default.

    Raises:
        UserError: the format cannot hold the model, or the exported model computes something else.
    """
    reference = ModelNetwork(model, None, flip_test, method, keep_heatmaps=True)
    built = build_pose_model(model.config, parameter_arrays(model), dtype, source)
    values: dict[str, Any] = {
        "holds": "network" if alone else "pose",
        "weights": source,
        "skeleton": asdict(reference.skeleton),
        "input_size": list(model.config.input_size),
        "heatmap_size": list(model.config.heatmap_size),
        "dtype": dtype,
        "preprocessing": {
            "image_mean": [round(float(v), 3) for v in IMAGE_MEAN],
            "image_std": [round(float(v), 3) for v in IMAGE_STD],
            "of_values_in": [0, 1],
            "channels": "RGB, last axis",
            "region": "the box widened to the crop's aspect ratio, times 1.25; scale is its "
            "(width, height) / 200, center its middle",
            "crop": "UDP affine: crop pixel (0, 0) shows the region's corner, the last pixel the "
            "opposite corner; bilinear; zeros outside the image",
        },
        "config": model.config.to_dict(),
    }
    people = certify.people_of(pictures or certify.drawn_people(), model.config.input_size)
    if alone:
        program = network_program(built)
        run = nnx.jit(lambda model, images: model(images))

        def expected(inputs: certify.Arrays) -> certify.Arrays:
            return {"heatmaps": np.asarray(run(model, inputs["images"]))}

        inputs = certify.images_of(people)
    else:
        program = pose_program(built, reference.skeleton, flip_test, method)
        values |= {"flip_test": flip_test, "decoder": method}

        def expected(inputs: certify.Arrays) -> certify.Arrays:
            return dict(zip(program.outputs, map(np.asarray, reference.run(**inputs)), strict=True))

        inputs = dict(people)
    drawn = f"{certify.DRAWN_PEOPLE} people drawn with seed {certify.DRAWN_SEED}"
    names = [str(image) for image, _ in pictures] if pictures else [drawn]
    values["certificate"] = {"pictures": names, "people": len(people["crops"])}
    return _write(program, path, runtime, values, inputs, expected, None if alone else method)


def export_forecaster(
    model: Forecaster | PosePredictor, path: Path, runtime: RuntimeName, *, source: str
) -> dict[str, Any]:
    """Export a forecaster, in float32; return its description, with the certificate.

    Raises:
        UserError: as for `export_pose`.
    """
    config = model.config
    if isinstance(model, Forecaster) and model.config.people:
        raise UserError(
            f"{source}: forecasts several people together, which cannot be exported yet; export a "
            "forecaster of single people"
        )
    values: dict[str, Any] = {
        "holds": "forecaster",
        "weights": source,
        "dtype": "float32",
        "observed": config.observed,
        "future": config.future,
        "joints": config.num_joints,
        "dims": config.dims,
        "fps": config.fps,
        "config": asdict(config),
        "certificate": {"motions": 8},
    }
    run = nnx.jit(lambda model, observed, visible: model.forecast(observed, visible))

    def expected(inputs: certify.Arrays) -> certify.Arrays:
        return {"future": np.asarray(run(model, inputs["observed"], inputs["visible"]))}

    inputs = certify.probe_motions(config.observed, config.num_joints, config.dims, 8)
    return _write(forecast_program(model), path, runtime, values, inputs, expected, None)


def check_out(path: Path, runtime: RuntimeName) -> None:
    """Raise UserError unless a file of this name can be recognised later."""
    if path.suffix.lower() != SUFFIXES[runtime]:
        raise UserError(f"--out {path}: must end in {SUFFIXES[runtime]}, by which it is recognised")


def _write(
    program: Program,
    path: Path,
    runtime: RuntimeName,
    values: dict[str, Any],
    inputs: certify.Arrays,
    expected: certify.Run,
    method: DecodeMethod | None,
) -> dict[str, Any]:
    check_out(path, runtime)
    make_folder(path.parent)
    head: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
    values = head | {"runtime": runtime} | values
    values["inputs"] = {n: _spec(s.shape, s.dtype) for n, s in program.inputs.items()}
    values["outputs"] = list(program.outputs)
    values["made_with"] = _made_with(runtime)
    with replacing(path) as draft:
        if runtime == "stablehlo":
            write_stablehlo(program, draft)
        else:
            _write_onnx(program, draft)
        values |= {"size": draft.stat().st_size, "sha256": sha256(draft)}
        artefact = Artefact(draft, values)
        run = certify.runner(artefact, RUNTIMES[runtime](artefact))
        reference = certify.in_parts(expected, inputs)
        found = certify.compare(certify.in_parts(run, inputs), reference, method)
        _refuse_broken(found, values["dtype"], path)
        probe = certify.in_parts(expected, certify.inputs_of_probe(artefact))
        values["certificate"] |= found | {"probe": certify.summary(probe, method)}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
    write_text(description_of(path), f"{{\n{lines}\n}}\n")
    return values


def _spec(shape: Sequence[Any], dtype: Any) -> str:
    return f"{np.dtype(dtype)} ({', '.join(map(str, shape))})"


def _write_onnx(program: Program, path: Path) -> None:
    size = sum(array.nbytes for array in program.weights.values())
    if size > LARGEST_ONNX:
        raise UserError(
            f"its weights take {size / 2**30:.1f} GiB, but an ONNX file ends at 2 GiB: use --dtype "
            "float16, or --to stablehlo"
        )
    from vitpose_jax.export.onnx_model import to_onnx  # which needs the extra `onnx`

    with portable():
        model = to_onnx(
            program.function, program.weights, program.inputs, program.outputs, program.batch
        )
    path.write_bytes(model.SerializeToString())


def _refuse_broken(found: Mapping[str, Any], dtype: str, path: Path) -> None:
    deviations = {name: value for name, value in found.items() if name.endswith("_deviation")}
    name, worst = max(deviations.items(), key=lambda item: item[1])
    if dtype == "float32" and not worst < WORST_FLOAT32:
        raise UserError(
            f"{path}: not written, since its results differ from the library's ({name} "
            f"{worst:.2g}); please report this"
        )


def _made_with(runtime: RuntimeName) -> dict[str, Any]:
    names = ["vitpose-jax", "jax", "jaxlib", "flax", "numpy"]
    names += ["onnx", "onnxruntime"] if runtime == "onnx" else []
    made: dict[str, Any] = {name: _version(name) for name in names}
    if runtime == "onnx":
        from vitpose_jax.export.onnx_model import IR_VERSION, OPSET

        made |= {"opset": OPSET, "ir_version": IR_VERSION}
    else:
        made["platforms"] = list(PLATFORMS)
    made |= {"commit": _commit(), "python": platform.python_version()}
    return made | {"compared_on": f"{jax.default_backend()}, {platform.machine()}"}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package is in, if it is in one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
