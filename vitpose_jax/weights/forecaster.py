"""Forecasters on disk: our own folders, and the original predictor's PyTorch files."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from vitpose_jax.errors import UserError, short_errors
from vitpose_jax.models.forecaster import Forecaster, ForecasterConfig
from vitpose_jax.models.pose_predictor import PosePredictor, PredictorConfig
from vitpose_jax.weights.native import check_overwrite, filled, parameter_arrays
from vitpose_jax.weights.schema import check_fields
from vitpose_jax.weights.sources import WEIGHT_SUFFIXES, refuse_run
from vitpose_jax.weights.tensors import (
    read_config,
    read_network,
    read_safetensors,
    write_weights,
)

MODEL_TYPE = "vitpose_jax_forecaster"
KINDS = {
    "forecaster": (Forecaster, ForecasterConfig),
    "predictor": (PosePredictor, PredictorConfig),
}

# The original's names on the left, ours on the right; weights are also transposed.
PREDICTOR_NAMES = (
    (r"input_proj", "input_proj"),
    (r"decoder", "output_proj"),
    (r"encoder\.layers\.(\d+)\.self_attn\.in_proj", r"layers.\1.qkv"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj", r"layers.\1.proj"),
    (r"encoder\.layers\.(\d+)\.linear([12])", r"layers.\1.fc\2"),
    (r"encoder\.layers\.(\d+)\.norm([12])", r"layers.\1.norm\2"),
)


def build_forecaster(
    config: Mapping[str, Any], seed: int = 0, where: str = "config.json"
) -> Forecaster | PosePredictor:
    """A forecaster with random weights, from a JSON-serialisable configuration with its `kind`.

    Raises:
        UserError: an unknown kind or field, or a value that does not fit.
    """
    values = dict(config)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(
            f"{where}: no forecaster of kind {kind!r:.60}; there are {', '.join(KINDS)}"
        )
    module, configuration = KINDS[kind]
    try:
        return module(configuration(**values), rngs=nnx.Rngs(seed))
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from None


def describe_forecaster(model: Forecaster | PosePredictor) -> dict[str, Any]:
    """Return a model's configuration, as `build_forecaster` takes it."""
    kind = next(name for name, (module, _) in KINDS.items() if isinstance(model, module))
    return {"kind": kind, **dataclasses.asdict(model.config)}


def save_forecaster(model: Forecaster | PosePredictor, folder: str | Path) -> None:
    """Write config.json and model.safetensors; an interrupted write leaves the old files.

    Raises:
        UserError: the folder has another model's config.json, or it cannot be written.

    Example:
        >>> forecaster = load_forecaster("weights/forecaster")
        >>> save_forecaster(forecaster, "weights/new")
    """
    check_overwrite(folder, MODEL_TYPE)
    config = {"model_type": MODEL_TYPE} | describe_forecaster(model)
    write_weights(folder, parameter_arrays(model), {"config.json": config})


@short_errors
def load_forecaster(source: str | Path) -> Forecaster | PosePredictor:
    """A forecaster from our own folder, or the original predictor from its PyTorch state dict.

    Raises:
        UserError: `source` does not exist, is a training run or another model's weights, or has
            damaged or unsafe files.

    Example:
        >>> load_forecaster("weights/forecaster").config.future
        5
    """
    refuse_run(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return _load_folder(path)
    if not path.exists():
        raise UserError(f"{source}: no such file or folder of forecaster weights")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise UserError(f"{path}: give a folder of weights or a PyTorch file of the original")
    return predictor_from_torch(read_network(path)[0], str(path))


def predictor_from_torch(tensors: Mapping[str, np.ndarray], where: str) -> PosePredictor:
    """The original predictor with the tensors of its state dict, whose shapes give its sizes.

    The numbers of heads and of future frames are not in the file: they are 8 and 5, as in the
    original.
    """
    arrays: dict[str, np.ndarray] = {}
    for key, value in tensors.items():
        module, _, leaf = key.replace("in_proj_", "in_proj.").rpartition(".")
        for pattern, ours in PREDICTOR_NAMES:
            if re.fullmatch(pattern, module) and leaf in ("weight", "bias"):
                name = re.sub(pattern, ours, module)
                norm = ".norm" in name
                leaf = "bias" if leaf == "bias" else "scale" if norm else "kernel"
                arrays[f"{name}.{leaf}"] = np.asarray(value, np.float32).T
                break
        else:
            raise UserError(
                f"{where}: {key!r} is not a tensor of the original pose predictor; for pose "
                "weights use --pose-weights"
            )
    depth = len({name.split(".")[1] for name in arrays if name.startswith("layers.")})
    for name in ("input_proj.kernel", "layers.0.fc1.kernel"):
        if name not in arrays:
            raise UserError(f"{where}: {name!r} of the original pose predictor is missing")
    size, width = arrays["input_proj.kernel"].shape
    config = PredictorConfig(
        num_joints=size // 2,
        width=width,
        depth=depth,
        mlp_width=arrays["layers.0.fc1.kernel"].shape[1],
    )
    abstract = nnx.eval_shape(lambda: PosePredictor(config, rngs=nnx.Rngs(0)))
    return filled(abstract, arrays, where)


def _load_folder(folder: Path) -> Forecaster | PosePredictor:
    values = read_config(folder)
    if values.pop("model_type", None) != MODEL_TYPE:
        raise UserError(
            f"{folder / 'config.json'} is not a forecaster's; was a pose model given instead?"
        )
    where, file = str(folder / "config.json"), folder / "model.safetensors"
    kind = values.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        fields = {name: value for name, value in values.items() if name != "kind"}
        check_fields(KINDS[kind][1], fields, where)
    arrays = read_safetensors(file)
    # Each layer or member has arrays; check this first, since building many would take long.
    for name in ("depth", "readout_depth", "members"):
        if values.get(name, 0) > len(arrays):
            raise UserError(
                f"{where}: {name} is {values[name]}, but there are {len(arrays)} arrays"
            )
    abstract = nnx.eval_shape(lambda: build_forecaster(values, where=where))
    return filled(abstract, arrays, str(file))
