"""The one table of which PyTorch tensor becomes which of our parameters, read in both directions.

Three namings of the same numbers:
    ours          NNX paths joined by dots, `backbone.blocks.0.attn.qkv.kernel`
    original      the authors' checkpoints, `backbone.blocks.0.attn.qkv.weight`
    huggingface   transformers' VitPose, `backbone.encoder.layer.0.attention.attention.query.weight`
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.vit import ViTConfig

Tensors = Mapping[str, np.ndarray]

# Axis orders: layout -> axes of ours in terms of PyTorch's, and of PyTorch's in terms of ours.
AXES = {
    "linear": ((1, 0), (1, 0)),  # (out, in) <-> (in, out)
    "conv": ((2, 3, 1, 0), (3, 2, 0, 1)),  # (out, in, h, w) <-> (h, w, in, out)
    "deconv": ((2, 3, 0, 1), (2, 3, 0, 1)),  # (in, out, h, w) <-> (h, w, in, out)
}


@dataclass(frozen=True)
class Row:
    """One of our parameters and the tensors it is made of.

    `original` and `huggingface` hold several keys where one parameter of ours is several tensors
    there: side by side along the output channels ("side by side": query, key, value), or stacked
    along a new first axis ("stack": experts). An empty tuple: that naming has no such tensor.
    """

    ours: str
    layout: str
    original: tuple[str, ...]
    huggingface: tuple[str, ...]
    join: str = "side by side"

    def keys(self, naming: str) -> tuple[str, ...]:
        return self.original if naming == "original" else self.huggingface

    def to_ours(self, tensors: list[np.ndarray]) -> np.ndarray:
        """PyTorch's tensors, in the order of the keys, to our array."""
        parts = [_to_ours(tensor, self.layout) for tensor in tensors]
        if self.join == "stack":
            return np.stack(parts)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def to_torch(self, array: np.ndarray, naming: str) -> dict[str, np.ndarray]:
        """Our array to PyTorch's tensors by key (views where possible)."""
        keys = self.keys(naming)
        parts = list(array) if self.join == "stack" else np.split(array, len(keys), axis=-1)
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


def backbone_rows(config: ViTConfig) -> list[Row]:
    """The backbone's part of the table."""
    original, hf = "backbone", "backbone"
    rows = [
        _row("backbone.pos_embed", "same",
             f"{original}.pos_embed", f"{hf}.embeddings.position_embeddings"),
        *_weight_and_bias("backbone.patch_embed", "patches",
                          f"{original}.patch_embed.proj",
                          f"{hf}.embeddings.patch_embeddings.projection"),
    ]  # fmt: skip
    for i in range(config.depth):
        ours, torch, layer = (
            f"backbone.blocks.{i}",
            f"{original}.blocks.{i}",
            f"{hf}.encoder.layer.{i}",
        )
        attention = f"{layer}.attention"
        rows += [
            *_norm(f"{ours}.norm1", f"{torch}.norm1", f"{layer}.layernorm_before"),
            *_weight_and_bias(f"{ours}.attn.qkv", "linear", f"{torch}.attn.qkv",
                              *(f"{attention}.attention.{p}" for p in ("query", "key", "value"))),
            *_weight_and_bias(f"{ours}.attn.proj", "linear",
                              f"{torch}.attn.proj", f"{attention}.output.dense"),
            *_norm(f"{ours}.norm2", f"{torch}.norm2", f"{layer}.layernorm_after"),
            *_weight_and_bias(f"{ours}.mlp.fc1", "linear", f"{torch}.mlp.fc1", f"{layer}.mlp.fc1"),
            *_weight_and_bias(f"{ours}.mlp.fc2", "linear", f"{torch}.mlp.fc2", f"{layer}.mlp.fc2"),
        ]  # fmt: skip
        for end, kind, layout in (("kernel", "weight", "linear"), ("bias", "bias", "same")):
            experts = range(config.num_experts)
            if experts:
                rows.append(
                    Row(
                        f"{ours}.mlp.experts.{end}",
                        layout,
                        tuple(f"{torch}.mlp.experts.{e}.{kind}" for e in experts),
                        tuple(f"{layer}.mlp.experts.{e}.{kind}" for e in experts),
                        join="stack",
                    )
                )
    return rows + _norm("backbone.last_norm", f"{original}.last_norm", f"{hf}.layernorm")


def decoder_rows(config: DecoderConfig) -> list[Row]:
    """The decoder's part of the table."""
    if config.kind == "simple":
        return _weight_and_bias("decoder.final", "conv", "keypoint_head.final_layer", "head.conv")
    rows = []
    for i in range(len(config.filters)):
        deconv, norm = f"keypoint_head.deconv_layers.{3 * i}", f"head.batchnorm{i + 1}"
        rows.append(
            _row(f"decoder.deconvs.{i}.kernel", "deconv",
                 f"{deconv}.weight", f"head.deconv{i + 1}.weight")
        )  # fmt: skip
        batch_norm = f"keypoint_head.deconv_layers.{3 * i + 1}"
        rows += _norm(f"decoder.norms.{i}", batch_norm, norm)
        for end, kind in (("mean", "running_mean"), ("var", "running_var")):
            rows.append(
                _row(f"decoder.norms.{i}.{end}", "same", f"{batch_norm}.{kind}", f"{norm}.{kind}")
            )
    return rows + _weight_and_bias(
        "decoder.final", "pixel conv", "keypoint_head.final_layer", "head.conv"
    )


def _row(ours: str, layout: str, original: str, *huggingface: str) -> Row:
    return Row(ours, layout, (original,), huggingface)


def _weight_and_bias(ours: str, layout: str, original: str, *huggingface: str) -> list[Row]:
    return [
        _row(f"{ours}.kernel", layout, f"{original}.weight", *(f"{k}.weight" for k in huggingface)),
        _row(f"{ours}.bias", "same", f"{original}.bias", *(f"{k}.bias" for k in huggingface)),
    ]


def _norm(ours: str, original: str, huggingface: str) -> list[Row]:
    return [
        _row(f"{ours}.scale", "same", f"{original}.weight", f"{huggingface}.weight"),
        _row(f"{ours}.bias", "same", f"{original}.bias", f"{huggingface}.bias"),
    ]


def from_torch(
    tensors: Tensors,
    rows: list[Row],
    naming: str,
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
) -> dict[str, np.ndarray]:
    """Our float32 arrays by name.

    Args:
        tensors: PyTorch's tensors by key; others than the table's are left alone.
        rows: the table.
        naming: "original" or "huggingface".
        shapes: the shape each of our arrays must get.
        where: the file, for messages.

    Raises:
        UserError: a tensor is missing or has another shape, naming the key and both shapes.
    """
    arrays = {}
    for row in rows:
        keys = row.keys(naming)
        # A zero-stride stand-in tells the shapes expected without a second table.
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
        arrays[row.ours] = np.ascontiguousarray(
            row.to_ours([tensors[key] for key in keys]), dtype=np.float32
        )
    return arrays


def to_torch(arrays: Tensors, rows: list[Row], naming: str) -> dict[str, np.ndarray]:
    """PyTorch's tensors by key, with the batch counters that batch norms carry there."""
    tensors = {}
    for row in rows:
        tensors |= row.to_torch(np.asarray(arrays[row.ours]), naming)
    for key in list(tensors):
        if key.endswith(".running_var"):
            counter = key.removesuffix("running_var") + "num_batches_tracked"
            tensors[counter] = np.zeros((), np.int64)
    return {key: np.ascontiguousarray(tensor) for key, tensor in tensors.items()}
