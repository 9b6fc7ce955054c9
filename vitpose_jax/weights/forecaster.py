"""Forecasters on disk: our own folders, and the original predictor's PyTorch files."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.models.forecaster import Forecaster, ForecasterConfig
from vitpose_jax.models.pose_predictor import PosePredictor, PredictorConfig
from vitpose_jax.weights.native import fill, parameter_arrays, write_weights
from vitpose_jax.weights.sources import TORCH_SUFFIXES, read_config, read_safetensors
from vitpose_jax.weights.sources import read_torch_file as read_torch

MODEL_TYPE = "vitpose_jax_forecaster"
KINDS = {
    "forecaster": (Forecaster, ForecasterConfig),
    "predictor": (PosePredictor, PredictorConfig),
}

# The original's names on the left, ours on the right; weights are transposed on the way.
PREDICTOR_NAMES = (
    (r"input_proj", "input_proj"),
    (r"decoder", "output_proj"),
    (r"encoder\.layers\.(\d+)\.self_attn\.in_proj", r"layers.\1.qkv"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj", r"layers.\1.proj"),
    (r"encoder\.layers\.(\d+)\.linear([12])", r"layers.\1.fc\2"),
    (r"encoder\.layers\.(\d+)\.norm([12])", r"layers.\1.norm\2"),
)


def build_forecaster(
    config: Mapping[str, object], seed: int = 0, where: str = "config.json"
) -> Forecaster | PosePredictor:
    """A forecaster with random weights from a JSON-able configuration with its `kind`.

    Raises:
      UserError: an unknown kind or field, or a value that is none.
    """
    values = dict(config)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise UserError(f"{where}: no forecaster of kind {kind!r}; there are {', '.join(KINDS)}")
    module, configuration = KINDS[kind]
    try:
        return module(configuration(**values), rngs=nnx.Rngs(seed))
    except (TypeError, ValueError, UserError) as error:
        raise UserError(f"{where}: {error}") from None


def describe_forecaster(model: Forecaster | PosePredictor) -> dict[str, object]:
    """What `build_forecaster` takes."""
    kind = next(name for name, (module, _) in KINDS.items() if isinstance(model, module))
    return {"kind": kind, **dataclasses.asdict(model.config)}


def save_forecaster(model: Forecaster | PosePredictor, folder: str | Path) -> None:
    """Writes config.json and model.safetensors; an interrupted write leaves the old files.

    Raises:
      UserError: a config.json of something else is there, or the folder cannot be written.
    """
    file = Path(folder) / "config.json"
    if file.exists() and read_config(file.parent).get("model_type") != MODEL_TYPE:
        raise UserError(f"{file} is not a forecaster's; choose another folder")
    config = {"model_type": MODEL_TYPE} | describe_forecaster(model)
    write_weights(folder, parameter_arrays(model), {"config.json": config})


def load_forecaster(source: str | Path) -> Forecaster | PosePredictor:
    """A forecaster from a folder of ours, or the original predictor from its PyTorch state dict.

    Raises:
      UserError: nothing there, another model's weights, damaged or refused files.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _load_folder(path)
    if not path.exists():
        raise UserError(f"{source}: no such file or folder of forecaster weights")
    if path.suffix not in TORCH_SUFFIXES:
        raise UserError(f"{path}: give a folder of weights or a PyTorch file of the original")
    return predictor_from_torch(read_torch(path), str(path))


def predictor_from_torch(tensors: Mapping[str, np.ndarray], where: str) -> PosePredictor:
    """The original predictor with the tensors of its state dict; sizes are read off the tensors.

    Head count and horizon leave no trace in the file: 8 and 5, as in the original.
    """
    arrays = {}
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
    return _filled(PosePredictor, config, arrays, where)


def _load_folder(folder: Path) -> Forecaster | PosePredictor:
    values = read_config(folder)
    if values.pop("model_type", None) != MODEL_TYPE:
        raise UserError(
            f"{folder / 'config.json'} is not a forecaster's; was a pose model given instead?"
        )
    abstract = nnx.eval_shape(lambda: build_forecaster(values, where=str(folder / "config.json")))
    arrays = read_safetensors(folder / "model.safetensors")
    graph, state = nnx.split(abstract)
    fill(state, arrays, "", str(folder / "model.safetensors"))
    return nnx.merge(graph, state)


def _filled(module: type, config: PredictorConfig, arrays: Mapping, where: str) -> PosePredictor:
    graph, state = nnx.split(nnx.eval_shape(lambda: module(config, rngs=nnx.Rngs(0))))
    fill(state, {name: jnp.asarray(value) for name, value in arrays.items()}, "", where)
    return nnx.merge(graph, state)
