"""The ViT backbone of ViTPose, and its mixture-of-experts form in ViTPose+.

Sources: Xu et al., "ViTPose" (2022) and "ViTPose++" (2023); numbers follow the authors' code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import EXPERT_DATASETS
from vitpose_jax.models.backends import attention, gelu
from vitpose_jax.models.layers import Dense, LayerNorm, add_bias, drop_path

Crops = Float[Array | np.ndarray, "batch height width 3"]
"""Normalised crops of the model's input size."""

PATCH_PADDING = 2  # pixels added at the top and left; as many are cut off at the bottom and right


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a backbone.

    Attributes:
        width, depth, num_heads, mlp_ratio: the transformer's.
        input_size: (height, width) of the crop in pixels, multiples of `patch_size`.
        layer_norm_eps: 1e-6 in the authors' code; transformers' files carry their own.
        drop_path_rate: stochastic depth rate of the last block; it rises linearly from 0.
        num_experts, part_features: ViTPose+ only: the last `part_features` of the MLP's `width`
            output channels come from the expert of the sample's data set.
        remat: recompute each block's activations in the backward pass instead of keeping them.

    Example:
        >>> ViTConfig(width=384, depth=12, num_heads=12).grid_size
        (16, 12)
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    input_size: tuple[int, int] = (256, 192)
    patch_size: int = 16
    layer_norm_eps: float = 1e-6
    drop_path_rate: float = 0.0
    num_experts: int = 0
    part_features: int = 0
    remat: bool = False

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "input_size", tuple(int(side) for side in self.input_size))
        except (TypeError, ValueError):
            raise UserError(
                f"input_size {self.input_size!r} is not (height, width), two whole numbers"
            ) from None
        if self.patch_size < 1:
            raise UserError(f"patch_size {self.patch_size} is not a positive number of pixels")
        if len(self.input_size) != 2 or any(
            side <= 0 or side % self.patch_size for side in self.input_size
        ):
            raise UserError(
                f"input_size {self.input_size} is not (height, width) in positive multiples of "
                f"{self.patch_size}, for example {(16 * self.patch_size, 12 * self.patch_size)}"
            )
        if self.num_heads <= 0 or self.width % self.num_heads:
            raise UserError(f"num_heads {self.num_heads} does not divide the width {self.width}")
        if not 0 <= self.layer_norm_eps < 1:
            raise UserError(f"layer_norm_eps {self.layer_norm_eps} must lie between 0 and 1")
        if self.num_experts and not 0 < self.part_features < self.width:
            raise UserError(
                f"part_features {self.part_features} must lie between 0 and the width {self.width}"
            )

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        height, width = self.input_size
        return height // self.patch_size, width // self.patch_size

    @property
    def mlp_width(self) -> int:
        # Rounded down as by the authors' code; a ratio of two widths may lie a hair too low.
        return int(self.width * self.mlp_ratio + 1e-6)


VIT_SIZES: dict[str, ViTConfig] = {
    "small": ViTConfig(384, 12, 12, drop_path_rate=0.1),
    "base": ViTConfig(768, 12, 12, drop_path_rate=0.3),
    "large": ViTConfig(1024, 24, 16, drop_path_rate=0.5),
    "huge": ViTConfig(1280, 32, 16, drop_path_rate=0.55),
}

_dense_init = nnx.initializers.truncated_normal(0.02)


def _dense(inputs: int, outputs: int, dtype: DTypeLike, rngs: nnx.Rngs) -> Dense:
    return Dense(inputs, outputs, dtype=dtype, kernel_init=_dense_init, rngs=rngs)


def _layer_norm(config: ViTConfig, dtype: DTypeLike, rngs: nnx.Rngs) -> LayerNorm:
    return LayerNorm(config.width, epsilon=config.layer_norm_eps, dtype=dtype, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention with a fused query-key-value projection."""

    def __init__(self, config: ViTConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.num_heads = config.num_heads
        self.qkv = _dense(config.width, 3 * config.width, dtype, rngs)
        self.proj = _dense(config.width, config.width, dtype, rngs)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """The softmax is float32."""
        batch, tokens, width = x.shape
        heads = (batch, tokens, self.num_heads, width // self.num_heads)
        mixed = attention(*(part.reshape(heads) for part in self.qkv.parts(x, 3)))
        return self.proj(mixed.reshape(batch, tokens, width))


class Experts(nnx.Module):
    """One linear layer per data set; each sample uses that of its own data set."""

    def __init__(self, config: ViTConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.dtype = dtype
        shape = (config.num_experts, config.mlp_width, config.part_features)
        self.kernel = nnx.Param(_dense_init(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros((config.num_experts, config.part_features)))

    def __call__(
        self, hidden: Float[Array, "b n _"], dataset_index: Int[Array, ""] | Int[Array, " b"]
    ) -> Float[Array, "b n _"]:
        kernel = self.kernel[...][dataset_index].astype(self.dtype)
        bias = self.bias[...][dataset_index].astype(self.dtype)
        return hidden @ kernel + bias[..., None, :]


class MLP(nnx.Module):
    """Two dense layers around a GELU; with experts, part of the output is theirs."""

    def __init__(self, config: ViTConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        shared = config.width - (config.part_features if config.num_experts else 0)
        self.fc1 = _dense(config.width, config.mlp_width, dtype, rngs)
        self.fc2 = _dense(config.mlp_width, shared, dtype, rngs)
        self.experts = Experts(config, dtype=dtype, rngs=rngs) if config.num_experts else None

    def __call__(
        self, x: Float[Array, "b n c"], dataset_index: jax.Array | None
    ) -> Float[Array, "b n c"]:
        hidden = gelu(self.fc1(x))
        shared = self.fc2(hidden)
        if self.experts is None or dataset_index is None:
            return shared
        return jnp.concatenate([shared, self.experts(hidden, dataset_index)], axis=-1)


class Block(nnx.Module):
    """Pre-norm transformer block."""

    def __init__(
        self, config: ViTConfig, drop_rate: float, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.drop_rate = drop_rate
        self.norm1 = _layer_norm(config, dtype, rngs)
        self.attn = Attention(config, dtype=dtype, rngs=rngs)
        self.norm2 = _layer_norm(config, dtype, rngs)
        self.mlp = MLP(config, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b n c"], dataset_index: jax.Array | None, key: jax.Array | None
    ) -> Float[Array, "b n c"]:
        """`key` drives stochastic depth; None turns it off."""
        key1, key2 = (None, None) if key is None else jax.random.split(key)
        x = x + drop_path(self.attn(self.norm1(x)), self.drop_rate, key1)
        return x + drop_path(self.mlp(self.norm2(x), dataset_index), self.drop_rate, key2)


@nnx.remat
def _rematerialised(
    block: Block, x: jax.Array, dataset_index: jax.Array | None, key: jax.Array | None
) -> jax.Array:
    return block(x, dataset_index, key)


def sinusoidal_positions(grid_size: tuple[int, int], width: int) -> jax.Array:
    """Sines and cosines of row and column, (rows * columns, width), as initial positions.

    As in MAE (He et al., 2022); the authors of ViTPose start from MAE's weights. When training from
    scratch with a random table, the network would have to learn where patches are, which takes far
    longer.
    """
    rows, columns = np.mgrid[: grid_size[0], : grid_size[1]]
    frequencies = 10000.0 ** -np.linspace(0, 1, width // 4, endpoint=False)
    angles = [axis.reshape(-1, 1) * frequencies for axis in (columns, rows)]
    table = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    padding = ((0, 0), (0, width - table.shape[1]))  # for widths not divisible by 4
    return jnp.asarray(np.pad(table, padding), jnp.float32)


class ViT(nnx.Module):
    """Vision transformer from crops to a feature map one sixteenth their size."""

    def __init__(
        self, config: ViTConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        self.config = config
        self.dtype = jnp.dtype(dtype)
        # Row 0 was for a class token, now absent; the authors' code adds it to every token.
        table = sinusoidal_positions(config.grid_size, config.width)
        self.pos_embed = nnx.Param(jnp.concatenate([jnp.zeros_like(table[:1]), table])[None])
        self.patch_embed = _dense(3 * config.patch_size**2, config.width, dtype, rngs)
        rates = np.linspace(0.0, config.drop_path_rate, config.depth)
        self.blocks = nnx.List(
            [Block(config, float(rate), dtype=dtype, rngs=rngs) for rate in rates]
        )
        self.last_norm = _layer_norm(config, dtype, rngs)

    def embed(self, crops: Crops) -> Float[Array, "batch n c"]:
        """Tokens of the crops' patches, row-major over the grid, with positions added."""
        if crops.ndim != 4 or crops.shape[1:] != (*self.config.input_size, 3):
            raise ValueError(
                f"crops have shape {crops.shape}; this model takes "
                f"(batch, {self.config.input_size[0]}, {self.config.input_size[1]}, 3)"
            )
        (rows, columns), size, pad = self.config.grid_size, self.config.patch_size, PATCH_PADDING
        shifted = jnp.pad(
            crops[:, :-pad, :-pad].astype(self.dtype), ((0, 0), (pad, 0), (pad, 0), (0, 0))
        )
        # Patches do not overlap, so the convolution is one matrix product.
        patches = shifted.reshape(-1, rows, size, columns, size, 3).transpose(0, 1, 3, 2, 4, 5)
        tokens = self.patch_embed(patches.reshape(-1, rows * columns, size * size * 3))
        positions = self.pos_embed[...]
        return add_bias(tokens, positions[0, 1:] + positions[0, :1])

    def __call__(
        self,
        crops: Crops,
        dataset_index: jax.Array | np.ndarray | int | None = None,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> Float[Array, "batch rows columns c"]:
        """Feature map of normalised crops; see `with_taps`."""
        return self.with_taps(crops, dataset_index, train=train, key=key)[0]

    def with_taps(
        self,
        crops: Crops,
        dataset_index: jax.Array | np.ndarray | int | None = None,
        *,
        blocks: Sequence[int] = (),
        norm: bool = False,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch rows columns c"], list[Float[Array, "batch rows columns c"]]]:
        """Feature map of normalised crops, and the outputs of selected blocks.

        Args:
            crops: normalised, of the size `config.input_size`.
            dataset_index: the experts' data set, one for all or (B,) int; mixture of experts only.
            blocks: indices (from 0) of blocks whose outputs are returned too.
            norm: whether to apply the final norm to these.
            train: turns on stochastic depth, which then needs `key`.
            key: random key.

        Returns:
            The map after the final norm, in the compute dtype, and those of `blocks`, in the same
            order.

        Raises:
            ValueError: wrong shape, no such block, or `dataset_index` or `key` missing.
        """
        dataset_index = self._check_dataset_index(dataset_index, crops.shape[0])
        outside = [i for i in blocks if not 0 <= i < self.config.depth]
        if outside:
            raise ValueError(f"no block {outside[0]}: this ViT has 0..{self.config.depth - 1}")
        if not train or self.config.drop_path_rate == 0:
            key = None
        elif key is None:
            raise ValueError("train=True with a drop path rate above 0 needs key=")

        tokens = self.embed(crops)
        tapped: dict[int, jax.Array] = {}
        for i, block in enumerate(self.blocks):
            block_key = None if key is None else jax.random.fold_in(key, i)
            run = _rematerialised if self.config.remat and train else Block.__call__
            tokens = run(block, tokens, dataset_index, block_key)
            if i in blocks:
                tapped[i] = self._to_map(self.last_norm(tokens) if norm else tokens)
        return self._to_map(self.last_norm(tokens)), [tapped[i] for i in blocks]

    def _to_map(self, tokens: jax.Array) -> jax.Array:
        return tokens.reshape(tokens.shape[0], *self.config.grid_size, -1)

    def _check_dataset_index(
        self, dataset_index: jax.Array | np.ndarray | int | None, batch: int
    ) -> jax.Array | None:
        experts = self.config.num_experts
        if not experts:
            return None
        if dataset_index is None:
            raise ValueError(
                f"this is a mixture of {experts} experts: pass dataset_index, an int or ({batch},) "
                f"ints ({', '.join(f'{i} {name}' for i, name in enumerate(EXPERT_DATASETS))})"
            )
        if jnp.shape(dataset_index) not in ((), (batch,)):
            raise ValueError(
                f"dataset_index has shape {jnp.shape(dataset_index)}, expected () or ({batch},)"
            )
        if isinstance(dataset_index, (int, np.ndarray, np.integer)) and not np.all(
            (np.asarray(dataset_index) >= 0) & (np.asarray(dataset_index) < experts)
        ):
            raise ValueError(f"dataset_index {dataset_index} is not in 0..{experts - 1}")
        return jnp.asarray(dataset_index)
