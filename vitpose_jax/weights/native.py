"""Our own folders of weights: config.json and model.safetensors under our parameters' names."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import make_folder, replacing
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViT, ViTConfig
from vitpose_jax.weights.sources import read_config, read_safetensors

MODEL_TYPE = "vitpose_jax"


@dataclass(frozen=True)
class Stored:
    """A configuration and its arrays by name; `config` is a ViTConfig for a lone backbone."""

    config: PoseConfig | ViTConfig
    arrays: Mapping[str, np.ndarray]

    @property
    def backbone(self) -> ViTConfig:
        return self.config if isinstance(self.config, ViTConfig) else self.config.backbone


def is_native(config: dict[str, Any]) -> bool:
    """Whether a config.json was written by `write_folder`."""
    return config.get("model_type") == MODEL_TYPE


def check_overwrite(folder: str | Path) -> None:
    """Raises UserError where `write_folder` would overwrite a config.json that is not ours."""
    file = Path(folder) / "config.json"
    if file.exists() and not is_native(read_config(Path(folder))):
        raise UserError(f"{file} was not written by this package; choose another folder")


def write_folder(stored: Stored, folder: str | Path) -> None:
    """Writes config.json and model.safetensors; an interrupted write leaves the old files.

    Raises:
        UserError: a config.json that is not ours is there, or the folder cannot be written.
    """
    if isinstance(stored.config, ViTConfig):
        values = {"backbone": asdict(stored.config), "decoder": None}
    else:
        values = stored.config.to_dict()
    check_overwrite(folder)
    write_weights(folder, stored.arrays, {"config.json": {"model_type": MODEL_TYPE} | values})


def write_weights(
    folder: str | Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, dict[str, Any]]
) -> None:
    """Writes model.safetensors and files of JSON aside and puts them in place once all are whole.

    Raises:
        UserError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {k: np.asarray(v, order="C") for k, v in arrays.items()}
    make_folder(folder)
    with contextlib.ExitStack() as files:  # which get their names in the reverse order
        drafts = {name: files.enter_context(replacing(Path(folder) / name)) for name in texts}
        for name, content in texts.items():
            drafts[name].write_text(json.dumps(content, indent=2) + "\n")
        draft = files.enter_context(replacing(Path(folder) / "model.safetensors"))
        try:
            save_file(contiguous, draft, metadata={"format": "pt"})  # transformers insists on it
        except SafetensorError as error:  # where the disk is full
            raise UserError(f"{folder}: cannot be written ({error})") from None


def read_folder(folder: Path) -> Stored:
    """Reads what `write_folder` wrote."""
    config = read_config(folder)
    values = {key: value for key, value in config.items() if key != "model_type"}
    try:
        if values.get("decoder") is None:
            parsed = ViTConfig(**values["backbone"])
        else:
            parsed = PoseConfig.from_dict(values)
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
    return Stored(parsed, read_safetensors(folder / "model.safetensors"))


def parameter_arrays(module: nnx.Module) -> dict[str, np.ndarray]:
    """All parameters and batch statistics of a module on the host, by dotted path."""
    kept = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
    return {
        ".".join(map(str, path)): np.asarray(jax.device_get(variable[...]))
        for path, variable in nnx.to_flat_state(kept)
    }


def parameter_shapes(config: PoseConfig | ViTConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter and batch statistic of such a model, by dotted path."""
    abstract = _abstract(config, jnp.float32)
    prefix = "backbone." if isinstance(config, ViTConfig) else ""
    kept = nnx.state(abstract, nnx.Any(nnx.Param, nnx.BatchStat))
    return {
        prefix + ".".join(map(str, path)): tuple(variable.shape)
        for path, variable in nnx.to_flat_state(kept)
    }


def build(stored: Stored, dtype: jnp.dtype, where: str) -> PoseModel | ViT:
    """The module with the stored arrays as its weights; nothing random is drawn on the way.

    Raises:
        UserError: an array is missing or has another shape.
    """
    module = _abstract(stored.config, dtype)
    prefix = "backbone." if isinstance(stored.config, ViTConfig) else ""
    graph, state = nnx.split(module)
    fill(state, stored.arrays, prefix, where)
    return nnx.merge(graph, state)


def fill(state: nnx.State, arrays: Mapping[str, np.ndarray], prefix: str, where: str) -> None:
    """Sets every variable of a state to the array of its dotted path behind `prefix`, in place."""
    for path, variable in nnx.to_flat_state(state):
        name = prefix + ".".join(map(str, path))
        if name not in arrays:
            raise UserError(f"{where}: {name!r} is missing (expected shape {variable.shape})")
        if arrays[name].shape != tuple(variable.shape):
            raise UserError(
                f"{where}: {name!r} has shape {arrays[name].shape}, expected {variable.shape}"
            )
        variable.set_value(jnp.asarray(arrays[name], jnp.float32))


class _OneKey:
    """In place of `nnx.Rngs` where nothing is drawn: counting keys is most of an abstract build."""

    def __init__(self) -> None:
        self.key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self.key


def _abstract(config: PoseConfig | ViTConfig, dtype: jnp.dtype) -> PoseModel | ViT:
    kind = ViT if isinstance(config, ViTConfig) else PoseModel
    rngs = _OneKey()
    return nnx.eval_shape(lambda: kind(config, dtype=dtype, rngs=rngs))
