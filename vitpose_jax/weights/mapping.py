"""The table that maps PyTorch tensors to our parameters, used in both directions.

Three namings of the same numbers:
    ours          NNX paths joined by dots, `backbone.blocks.0.attn.qkv.kernel`
    original      the authors' checkpoints, `backbone.blocks.0.attn.qkv.weight`
    huggingface   transformers' VitPose, `backbone.encoder.layer.0.attention.attention.query.weight`
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import ViTConfig

Naming = Literal["original", "huggingface"]

# The table, one layer per row. Columns: ours, kind, original, huggingface; names get a prefix (see
# `table_rows`). `PARAMETERS` lists the parameters of each kind of layer. Several names in one cell
# are layers that are concatenated along the output channels.
Table = tuple[tuple[str, str, str, str], ...]
BACKBONE: Table = (
    ("pos_embed", "array", "pos_embed", "embeddings.position_embeddings"),
    ("patch_embed", "patches", "patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ("last_norm", "norm", "last_norm", "layernorm"),
)
BLOCK: Table = (
    ("norm1", "norm", "norm1", "layernorm_before"),
    ("attn.qkv", "linear", "attn.qkv",
     "attention.attention.query attention.attention.key attention.attention.value"),
    ("attn.proj", "linear", "attn.proj", "attention.output.dense"),
    ("norm2", "norm", "norm2", "layernorm_after"),
    ("mlp.fc1", "linear", "mlp.fc1", "mlp.fc1"),
    ("mlp.fc2", "linear", "mlp.fc2", "mlp.fc2"),
)  # fmt: skip
# One tensor for each expert, stacked along a new first axis.
EXPERTS: Table = (("mlp.experts", "linear", "mlp.experts.{e}", "mlp.experts.{e}"),)
# The original numbers deconvolution, norm and ReLU consecutively; transformers counts from 1.
DECONV: Table = (
    ("deconvs.{i}", "deconv", "deconv_layers.{conv}", "deconv{n}"),
    ("norms.{i}", "batch norm", "deconv_layers.{norm}", "batchnorm{n}"),
)
FINAL: dict[str, Table] = {
    "classic": (("final", "pixel conv", "final_layer", "conv"),),
    "simple": (("final", "conv", "final_layer", "conv"),),
}
# The necks of the ViTPose-FPN study, which transformers does not have; `{i}` counts the levels.
NECK: dict[str, Table] = {
    "strided": (
        ("bottom_convs.{i}", "pixel conv", "neck.bottom_convs.{i}", ""),
        ("lateral_convs.{i}", "pixel conv", "neck.lateral_convs.{i}", ""),
        ("output_convs.{i}", "conv", "neck.output_convs.{i}", ""),
    ),
    "blocks": (
        ("proj_layers.{i}", "pixel conv", "keypoint_head.proj_layers.{i}", ""),
        ("stride_convs.{i}", "conv", "keypoint_head.fpn_stride_convs.{i}", ""),
        ("smooth_convs.{i}", "conv", "keypoint_head.smooth_convs.{i}.0", ""),
        ("smooth_norms.{i}", "batch norm", "keypoint_head.smooth_convs.{i}.1", ""),
    ),
}

# A layer's parameters: our name and PyTorch's. The layout of kernels depends on the kind of layer.
SCALE_BIAS = ((".scale", ".weight"), (".bias", ".bias"))
PARAMETERS = {
    "array": (("", ""),),
    "norm": SCALE_BIAS,
    "batch norm": (*SCALE_BIAS, (".mean", ".running_mean"), (".var", ".running_var")),
    "deconv": ((".kernel", ".weight"),),
    **dict.fromkeys(
        ("linear", "conv", "pixel conv", "patches"), ((".kernel", ".weight"), (".bias", ".bias"))
    ),
}

# Layouts that only reorder axes: ours in terms of PyTorch's, and PyTorch's in terms of ours.
AXES = {
    "linear": ((1, 0), (1, 0)),  # (out, in) <-> (in, out)
    "conv": ((2, 3, 1, 0), (3, 2, 0, 1)),  # (out, in, h, w) <-> (h, w, in, out)
    "deconv": ((2, 3, 0, 1), (2, 3, 0, 1)),  # (in, out, h, w) <-> (h, w, in, out)
}


@dataclass(frozen=True)
class Row:
    """One of our parameters and the keys of the tensors that it is made of.

    Several tensors are concatenated along the output channels (query, key, value) or, if
    `stacked`, stacked along a new first axis (experts).
    """

    ours: str
    layout: str
    original: tuple[str, ...]
    huggingface: tuple[str, ...]
    stacked: bool = False

    def keys(self, naming: Naming) -> tuple[str, ...]:
        return self.original if naming == "original" else self.huggingface

    def to_ours(self, tensors: list[np.ndarray]) -> np.ndarray:
        """Convert PyTorch's tensors, in the order of the keys, to our array."""
        parts = [_to_ours(tensor, self.layout) for tensor in tensors]
        if self.stacked:
            return np.stack(parts)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def to_torch(self, array: np.ndarray, naming: Naming) -> dict[str, np.ndarray]:
        """Convert our array to PyTorch's tensors by key (views where possible)."""
        keys = self.keys(naming)
        parts = list(array) if self.stacked else np.split(array, len(keys), axis=-1)
        return {k: _to_torch(part, self.layout) for k, part in zip(keys, parts, strict=True)}


def _to_ours(tensor: np.ndarray, layout: str) -> np.ndarray:
    if layout == "same":
        return tensor
    if layout == "pixel conv":  # (out, in, 1, 1) -> (in, out)
        return tensor.reshape(tensor.shape[:2]).T
    if layout == "patches":  # (out, 3, p, p) -> (p * p * 3, out)
        return tensor.transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0])
    return tensor.transpose(AXES[layout][0])


def _to_torch(array: np.ndarray, layout: str) -> np.ndarray:
    if layout == "same":
        return array
    if layout == "pixel conv":
        return array.T[:, :, None, None]
    if layout == "patches":
        size = round((array.shape[0] / 3) ** 0.5)
        return array.reshape(size, size, 3, -1).transpose(3, 2, 0, 1)
    return array.transpose(AXES[layout][1])


def table_rows(config: PoseConfig | ViTConfig) -> list[Row]:
    """The rows of the table for a whole model, or for a backbone alone."""
    if isinstance(config, ViTConfig):
        return backbone_rows(config)
    neck = [] if config.neck is None else neck_rows(config.neck)
    return backbone_rows(config.backbone) + neck + decoder_rows(config.decoder)


def backbone_rows(config: ViTConfig) -> list[Row]:
    rows = _rows(BACKBONE, ("backbone.", "backbone.", "backbone."))
    for i in range(config.depth):
        ours = theirs = f"backbone.blocks.{i}."
        prefixes = (ours, theirs, f"backbone.encoder.layer.{i}.")
        rows += _rows(BLOCK, prefixes)
        if config.num_experts:
            rows += _rows(EXPERTS, prefixes, experts=config.num_experts)
    return rows


def neck_rows(config: NeckConfig) -> list[Row]:
    table = NECK[config.kind]
    levels = range(len(config.strides))
    return [row for i in levels for row in _rows(table, ("neck.", "", ""), i=i)]


def decoder_rows(config: DecoderConfig) -> list[Row]:
    prefixes = ("decoder.", "keypoint_head.", "head.")
    rows = []
    if config.kind == "classic":
        for i in range(len(config.filters)):
            rows += _rows(DECONV, prefixes, i=i, n=i + 1, conv=3 * i, norm=3 * i + 1)
    return rows + _rows(FINAL[config.kind], prefixes)


def _rows(
    table: Table, prefixes: tuple[str, str, str], experts: int = 0, **numbers: int
) -> list[Row]:
    def keys(prefix: str, cell: str, parameter: str) -> tuple[str, ...]:
        return tuple(
            f"{prefix}{layer.format(e=e, **numbers)}{parameter}"
            for e in range(experts or 1)
            for layer in cell.split()
        )

    return [
        Row(
            f"{prefixes[0]}{layer.format(**numbers)}{ours}",
            kind if ours == ".kernel" else "same",
            keys(prefixes[1], original, theirs),
            keys(prefixes[2], huggingface, theirs),
            stacked=experts > 0,
        )
        for layer, kind, original, huggingface in table
        for ours, theirs in PARAMETERS[kind]
    ]


def from_torch(
    tensors: Mapping[str, np.ndarray],
    rows: list[Row],
    naming: Naming,
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
) -> dict[str, np.ndarray]:
    """Convert PyTorch's tensors to our float32 arrays by name.

    Args:
        tensors: PyTorch's tensors by key; those that are not in the table are ignored.
        rows: the table.
        naming: the naming of the tensors.
        shapes: the shape that each of our arrays must have.
        where: the file, for messages.

    Raises:
        UserError: a tensor is missing, has another shape (the message names the key and both
            shapes), or holds anything but finite floating-point numbers.
    """
    arrays = {}
    for row in rows:
        # Converting a zero-stride placeholder gives the expected shapes without a second table.
        stand_in = np.broadcast_to(np.float32(0), shapes[row.ours])
        for key, expected in row.to_torch(stand_in, naming).items():
            if key not in tensors:
                raise UserError(
                    f"{where}: tensor {key!r} is missing (expected shape {expected.shape}); "
                    "the file is incomplete or of another architecture"
                )
            if tensors[key].shape != expected.shape:
                raise UserError(
                    f"{where}: tensor {key!r} has shape {tensors[key].shape}, expected "
                    f"{expected.shape}; the file is of another architecture"
                )
            _check_numbers(tensors[key], key, where)
        array = row.to_ours([tensors[key] for key in row.keys(naming)])
        arrays[row.ours] = np.ascontiguousarray(array, dtype=np.float32)
    return arrays


def _check_numbers(tensor: np.ndarray, key: str, where: str) -> None:
    """Raise UserError unless a tensor holds finite floating-point numbers."""
    if tensor.dtype.kind in "biu":
        raise UserError(
            f"{where}: tensor {key!r} holds whole numbers ({tensor.dtype}), as quantised weights "
            "do; give the weights before quantisation"
        )
    if not np.isfinite(tensor.astype(np.float32, copy=False)).all():
        raise UserError(
            f"{where}: tensor {key!r} holds values that are not numbers (NaN or infinite): "
            "training failed, or the file is damaged"
        )


def to_torch(
    arrays: Mapping[str, np.ndarray], rows: list[Row], naming: Naming
) -> dict[str, np.ndarray]:
    """Convert our arrays to PyTorch's tensors by key, adding the batch counters of batch norms."""
    tensors: dict[str, np.ndarray] = {}
    for row in rows:
        tensors |= row.to_torch(np.asarray(arrays[row.ours]), naming)
    for key in list(tensors):
        if key.endswith(".running_var"):
            counter = key.removesuffix("running_var") + "num_batches_tracked"
            tensors[counter] = np.zeros((), np.int64)
    return {key: np.asarray(tensor, order="C") for key, tensor in tensors.items()}
