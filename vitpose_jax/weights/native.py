"""Our own weights folders: config.json, and model.safetensors with our parameter names."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import Skeleton
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViT, ViTConfig
from vitpose_jax.weights.schema import check_fields, check_sizes
from vitpose_jax.weights.tensors import read_config, read_safetensors, write_weights

MODEL_TYPE = "vitpose_jax"
Module = TypeVar("Module", bound=nnx.Module)


@dataclass(frozen=True)
class Stored:
    """A configuration and its arrays by name; `config` is a ViTConfig for a backbone alone.

    `notes` are the messages to the user from the conversion of the arrays.
    """

    config: PoseConfig | ViTConfig
    arrays: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()

    @property
    def backbone(self) -> ViTConfig:
        return self.config if isinstance(self.config, ViTConfig) else self.config.backbone

    def with_backbone(self, backbone: ViTConfig, arrays: Mapping[str, np.ndarray]) -> "Stored":
        """The same model with another backbone configuration and other arrays."""
        if isinstance(self.config, ViTConfig):
            return Stored(backbone, arrays, self.notes)
        return Stored(replace(self.config, backbone=backbone), arrays, self.notes)


def save_pose_model(model: PoseModel, folder: str | Path) -> None:
    """Write config.json and model.safetensors, which `load_pose_model` opens.

    Raises:
        UserError: as in `write_folder`.

    Example:
        >>> model = load_pose_model("weights/vitpose-b")
        >>> save_pose_model(model, "weights/mine")
    """
    write_folder(Stored(model.config, parameter_arrays(model)), folder)


def write_folder(stored: Stored, folder: str | Path) -> None:
    """Write config.json and model.safetensors; an interrupted write leaves the old files.

    Raises:
        UserError: the folder has a config.json that is not ours, or it cannot be written.
    """
    values: dict[str, Any]
    if isinstance(stored.config, ViTConfig):
        values = {"backbone": asdict(stored.config), "decoder": None}
    else:
        values = stored.config.to_dict()
    if stored.notes:
        values["notes"] = list(stored.notes)
    check_overwrite(folder)
    write_weights(folder, stored.arrays, {"config.json": {"model_type": MODEL_TYPE} | values})


def check_overwrite(folder: str | Path, model_type: str = MODEL_TYPE) -> None:
    """Raise UserError if a folder holds a config.json of another kind of model."""
    folder = Path(folder)
    if not (folder / "config.json").exists():
        return
    found = read_config(folder).get("model_type")
    if found != model_type:
        raise UserError(
            f"{folder}: holds another kind of model (config.json says model_type {found!r}); "
            "choose another folder"
        )


def is_native(config: Mapping[str, Any]) -> bool:
    """Whether a config.json was written by `write_folder`."""
    return config.get("model_type") == MODEL_TYPE


def read_folder(folder: Path) -> Stored:
    """Read what `write_folder` wrote.

    Raises:
        UserError: files are damaged, or config.json does not match the tensors.
    """
    where, values = str(folder / "config.json"), read_config(folder)
    sections = {"backbone": ViTConfig, "decoder": DecoderConfig, "neck": NeckConfig}
    for name, kind in (sections | {"skeleton": Skeleton}).items():
        if name == "backbone" or values.get(name) is not None:
            check_fields(kind, values.get(name), f"{where}: {name}")
    if not isinstance(values.get("dataset"), str | None):
        raise UserError(f"{where}: dataset is {values['dataset']!r:.60}, not a name")
    config: PoseConfig | ViTConfig
    try:
        if values.get("decoder") is None:
            config = ViTConfig(**values["backbone"])
        else:
            config = PoseConfig.from_dict(values)
            if config.skeleton is not None:
                config.skeleton.check()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    arrays = read_safetensors(folder / "model.safetensors")
    check_sizes(_sizes(config, arrays), where)
    notes = values.get("notes")
    return Stored(config, arrays, tuple(map(str, notes)) if isinstance(notes, list) else ())


def _sizes(
    config: PoseConfig | ViTConfig, arrays: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, object, object]]:
    """Sizes that decide how long building takes, by the configuration and by the arrays.

    The others are compared when the arrays are filled in.
    """
    backbone = config if isinstance(config, ViTConfig) else config.backbone
    rows, columns = backbone.grid_size
    yield "depth", backbone.depth, _count(r"backbone\.blocks\.(\d+)\..*", arrays)
    for name, size in (
        ("backbone.pos_embed", (1, 1 + rows * columns, backbone.width)),
        ("backbone.patch_embed.kernel", (3 * backbone.patch_size**2, backbone.width)),
        ("backbone.blocks.0.mlp.fc1.kernel", (backbone.width, backbone.mlp_width)),
    ):
        if name in arrays:
            yield f"shape of {name}", size, arrays[name].shape
    if isinstance(config, PoseConfig):
        filters = config.decoder.filters if config.decoder.kind == "classic" else ()
        kernels = (f"decoder.deconvs.{i}.kernel" for i in range(len(arrays)))
        shapes = [arrays[name].shape for name in kernels if name in arrays]
        yield "decoder's filters", list(filters), [shape[-1] for shape in shapes]
        if config.neck is not None:
            levels = max(len(config.neck.strides), len(config.neck.taps))
            yield "neck's levels", min(levels, len(arrays)), levels


def _count(pattern: str, names: Iterable[str]) -> int:
    """How many different values the pattern's group has among the names."""
    return len({match.group(1) for name in names if (match := re.fullmatch(pattern, name))})


def parameter_arrays(module: nnx.Module) -> dict[str, np.ndarray]:
    """All parameters and batch statistics of a module on the host, by dotted path."""
    kept = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
    return {
        _dotted(path): np.asarray(jax.device_get(variable[...]))
        for path, variable in nnx.to_flat_state(kept)
    }


def parameter_shapes(config: PoseConfig | ViTConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter and batch statistic of a model, by dotted path."""
    module: PoseModel | ViT
    if isinstance(config, ViTConfig):
        prefix, module = "backbone.", _abstract_backbone(config, jnp.float32)
    else:
        prefix, module = "", _abstract_model(config, jnp.float32)
    kept = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
    return {
        prefix + _dotted(path): tuple(variable.shape) for path, variable in nnx.to_flat_state(kept)
    }


def build_pose_model(
    config: PoseConfig, arrays: Mapping[str, np.ndarray], dtype: DTypeLike, where: str
) -> PoseModel:
    """The model with arrays as its weights, without random initialisation; raises as `fill`."""
    return filled(_abstract_model(config, dtype), arrays, where)


def build_backbone(
    config: ViTConfig, arrays: Mapping[str, np.ndarray], dtype: DTypeLike, where: str
) -> ViT:
    """As `build_pose_model`, for the backbone alone."""
    return filled(_abstract_backbone(config, dtype), arrays, where, "backbone.")


def filled(
    abstract: Module, arrays: Mapping[str, np.ndarray], where: str, prefix: str = ""
) -> Module:
    """Fill an abstract module (shapes only) with arrays as its weights; raises as `fill`."""
    graph, state = nnx.split(abstract)
    fill(state, arrays, prefix, where)
    return nnx.merge(graph, state)


def fill(state: nnx.State, arrays: Mapping[str, np.ndarray], prefix: str, where: str) -> None:
    """Set every variable of a state, in place, to the array named `prefix` + its dotted path.

    Raises:
        UserError: an array is missing or has another shape.
    """
    for path, variable in nnx.to_flat_state(state):
        name = prefix + _dotted(path)
        if name not in arrays:
            raise UserError(f"{where}: {name!r} is missing (expected shape {variable.shape})")
        if arrays[name].shape != tuple(variable.shape):
            raise UserError(
                f"{where}: {name!r} has shape {arrays[name].shape}, expected {variable.shape}"
            )
        variable.set_value(jnp.asarray(arrays[name], jnp.float32))


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


class _OneKey(nnx.Rngs):
    """`nnx.Rngs` that always gives one key: counting keys takes most of an abstract build."""

    def __init__(self) -> None:
        self.key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self.key


def _abstract_model(config: PoseConfig, dtype: DTypeLike) -> PoseModel:
    return nnx.eval_shape(lambda: PoseModel(config, dtype=dtype, rngs=_OneKey()))


def _abstract_backbone(config: ViTConfig, dtype: DTypeLike) -> ViT:
    return nnx.eval_shape(lambda: ViT(config, dtype=dtype, rngs=_OneKey()))
