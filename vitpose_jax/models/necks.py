"""Necks: optional modules between a ViT's feature maps and the decoder.

A plain ViT gives one map at 1/16 of the crop's size. The necks here turn it (and optionally the
outputs of earlier blocks) into the one map that the decoder reads:

- `StridedPyramid`: the feature pyramid of the ViTPose-FPN study over the last map.
- `BlockFusion`: that study's other pyramid, over several blocks' maps.
- `SimplePyramid`: the simple feature pyramid of ViTDet (Li et al., ECCV 2022, section 3).
- `ResidualPyramid`: the last map plus a pyramid branch whose last layer starts at zero, so that
  with the pretrained decoder the model starts out identical to the one without a neck.

Every neck is called as `neck(features, taps, train=False)`: `features` is the backbone's last map
after its final norm, `taps` are the maps of `config.taps`. The result has `config.out_channels`
channels and `config.upscaling` times the size, in the compute dtype.

Each questionable choice of the original study is one option of `NeckConfig`, with the sound choice
as its default, so that a study can change one at a time.
"""

import math
from functools import reduce

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vitpose_jax.models.layers import BatchNorm, Dense
from vitpose_jax.models.neck_config import Features, NeckConfig, NewLayers, Taps
from vitpose_jax.models.resampling import (
    average_pool,
    resize_bilinear,
    resize_nearest,
    size_of,
    subsample,
)


class StridedPyramid(nnx.Module):
    """The study's pyramid over the last map (its `FeaturePyramidNetwork`).

    1x1 convolutions down, laterals, a top-down path, 3x3 convolutions; the maps are resized to the
    first one's size and concatenated. With `cumulative`, "subsample" and "coarsest" it is the
    original as coded: of a 16x12 map, strides 1,2,4,8 leave 16x12, 8x6, 2x2 and 1x1.
    """

    def __init__(self, config: NeckConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        new, width = NewLayers(config.init_std, dtype, rngs), config.width
        self.bottom_convs = nnx.List([new.linear(width, width) for _ in config.strides])
        self.lateral_convs = nnx.List([new.linear(width, width) for _ in config.strides])
        self.output_convs = nnx.List([new.conv3x3(width, width) for _ in config.strides])

    def maps(self, features: Features) -> list[Array]:
        """The pyramid's levels, in the order of `strides`, each (B, h_i, w_i, width)."""
        shrink = subsample if self.config.downsample == "subsample" else average_pool
        bottom_up, below = [], features
        for conv, stride in zip(self.bottom_convs, self.config.strides, strict=True):
            level = conv(shrink(below, stride))
            bottom_up.append(level)
            below = level if self.config.cumulative else features

        laterals = [conv(x) for conv, x in zip(self.lateral_convs, bottom_up, strict=True)]
        merged = [laterals[-1]]  # finest first
        for lateral in reversed(laterals[:-1]):
            above = merged[0] if self.config.top_down == "next" else merged[-1]
            merged.insert(0, lateral + resize_nearest(above, size_of(lateral)))
        return [conv(x) for conv, x in zip(self.output_convs, merged, strict=True)]

    def __call__(
        self, features: Features, taps: Taps = (), *, train: bool = False
    ) -> Float[Array, "batch _ _ _"]:
        maps = self.maps(features)
        if self.config.fuse == "first":
            return maps[0]
        return jnp.concatenate([resize_bilinear(x, size_of(maps[0])) for x in maps], axis=-1)


class BlockFusion(nnx.Module):
    """The study's pyramid over several blocks (in its `TopdownHeatmapSimpleHeadFPN`).

    Each tapped map: 1x1 convolution, strided 3x3 convolution, bilinear upsampling to the largest
    of them, depthwise 3x3 convolution with BatchNorm and ReLU; then the sum.
    """

    def __init__(self, config: NeckConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        width = config.width
        # In the original only the smoothing convolutions have small initial weights; the first two
        # keep PyTorch's default, which is scaled by the fan-in.
        first, smooth = NewLayers(None, dtype, rngs), NewLayers(config.init_std, dtype, rngs)
        self.proj_layers = nnx.List([first.linear(width, width) for _ in config.taps])
        self.stride_convs = nnx.List(
            [first.conv3x3(width, width, stride=s) for s in config.strides]
        )
        self.smooth_convs = nnx.List(
            [smooth.conv3x3(width, width, groups=width) for _ in config.taps]
        )
        self.smooth_norms = nnx.List([BatchNorm(width, dtype=dtype) for _ in config.taps])

    def __call__(
        self, features: Features, taps: Taps, *, train: bool = False
    ) -> Float[Array, "batch _ _ channels"]:
        projections = zip(self.stride_convs, self.proj_layers, taps, strict=True)
        maps = [conv(proj(x)) for conv, proj, x in projections]
        size = max(map(size_of, maps), key=math.prod)
        smoothing = zip(maps, self.smooth_convs, self.smooth_norms, strict=True)
        smoothed = [
            nnx.relu(norm(conv(resize_bilinear(x, size)), train=train))
            for x, conv, norm in smoothing
        ]
        return reduce(jnp.add, smoothed)


class _Level(nnx.Module):
    """1x1 convolution, norm, 3x3 convolution, norm: ViTDet's layers for every level."""

    def __init__(self, inputs: int, outputs: int, new: NewLayers) -> None:
        self.lateral = new.linear(inputs, outputs)
        self.lateral_norm = new.layer_norm(outputs)
        self.output = new.conv3x3(outputs, outputs)
        self.output_norm = new.layer_norm(outputs)

    def __call__(self, x: Array) -> Array:
        return self.output_norm(self.output(self.lateral_norm(self.lateral(x))))


class _Upsample2(nnx.Module):
    """Transposed convolution with kernel 2 and stride 2: (B, h, w, in) -> (B, 2h, 2w, out).

    Its windows do not overlap, so it is one matrix product.
    """

    def __init__(self, inputs: int, outputs: int, new: NewLayers) -> None:
        self.linear = new.linear(inputs, 4 * outputs)

    def __call__(self, x: Array) -> Array:
        batch, height, width, _ = x.shape
        x = self.linear(x).reshape(batch, height, width, 2, 2, -1)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, -1)


class SimplePyramid(nnx.Module):
    """ViTDet's pyramid from the last map: 1/4, 1/8, 1/16 and 1/32 of the crop.

    Up by transposed convolutions, down by pooling. The levels are upsampled to 1/4, the heatmaps'
    size, and summed (as pyramids do for dense prediction: Kirillov et al., Panoptic FPN, CVPR
    2019); then ReLU. The decoder that follows needs no transposed convolutions
    (`DecoderConfig(kind="classic", filters=())`).
    """

    def __init__(self, config: NeckConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        new, width = NewLayers(config.init_std, dtype, rngs), config.width
        half, quarter = width // 2, width // 4
        self.up_first = _Upsample2(width, half, new)
        self.up_norm = new.layer_norm(half)
        self.up_second = _Upsample2(half, quarter, new)
        self.up_single = _Upsample2(width, half, new)
        self.levels = nnx.List(
            [_Level(inputs, config.channels, new) for inputs in (quarter, half, width, width)]
        )

    def __call__(
        self, features: Features, taps: Taps = (), *, train: bool = False
    ) -> Float[Array, "batch 4*height 4*width _"]:
        maps = [
            self.up_second(nnx.gelu(self.up_norm(self.up_first(features)))),
            self.up_single(features),
            features,
            nnx.max_pool(features, (2, 2), strides=(2, 2), padding="SAME"),
        ]
        maps = [level(x) for level, x in zip(self.levels, maps, strict=True)]
        return nnx.relu(reduce(jnp.add, [resize_bilinear(x, size_of(maps[0])) for x in maps]))


class ResidualPyramid(nnx.Module):
    """The last map plus a residual from a pyramid over several blocks.

    The tapped maps and the last one are projected and summed. Mean pooling of the sum with each of
    `strides` makes levels, each with its own 3x3 convolution; a top-down path brings the coarse
    context back to full size; a final 1x1 convolution, initialised to zero, restores the backbone's
    channels.
    """

    def __init__(self, config: NeckConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        new = NewLayers(config.init_std, dtype, rngs)
        width, channels = config.width, config.channels
        self.proj_layers = nnx.List(
            [new.linear(width, channels) for _ in range(len(config.taps) + 1)]
        )
        self.level_norms = nnx.List([new.layer_norm(channels) for _ in config.strides])
        self.level_convs = nnx.List([new.conv3x3(channels, channels) for _ in config.strides])
        self.out_norm = new.layer_norm(channels)
        zeros = nnx.initializers.zeros_init()
        self.out = Dense(channels, width, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, features: Features, taps: Taps = (), *, train: bool = False) -> Features:
        inputs = zip(self.proj_layers, [*taps, features], strict=True)
        joined = reduce(jnp.add, [proj(x) for proj, x in inputs])
        levels = [
            nnx.gelu(conv(norm(average_pool(joined, stride))))
            for stride, norm, conv in zip(
                self.config.strides, self.level_norms, self.level_convs, strict=True
            )
        ]
        branch = levels[-1]
        for level in reversed(levels[:-1]):
            branch = level + resize_bilinear(branch, size_of(level))
        branch = resize_bilinear(branch, size_of(features))
        return features + self.out(self.out_norm(branch + joined))


Neck = StridedPyramid | BlockFusion | SimplePyramid | ResidualPyramid
NECKS: dict[str, type[Neck]] = {
    "strided": StridedPyramid,
    "blocks": BlockFusion,
    "simple": SimplePyramid,
    "residual": ResidualPyramid,
}
