"""A pyramid beside the decoder, which sees the picture again and corrects the heatmaps.

A plain ViT's maps are at 1/16 of the crop: pyramids over them add no detail that the decoder does
not already get. This one has a convolutional stem over the crop. Its maps and the backbone's meet
in a top-down path (Lin et al., "Feature Pyramid Networks", CVPR 2017) that ends at the heatmaps'
size. The last layer starts at zero, so the model starts out as exactly the one without the pyramid.
"""

from collections.abc import Sequence
from functools import reduce

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from vitpose_jax.models.backends import gelu
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.layers import Dense, LayerNorm
from vitpose_jax.models.neck_config import NeckConfig, NewLayers
from vitpose_jax.models.resampling import (
    average_pool,
    resize_aligned,
    resize_bilinear,
    size_of,
    space_to_depth,
)
from vitpose_jax.models.vit import Crops

HEATMAP_STRIDE = 4  # of the crop, like the map that the decoder's last layer reads
OUT_SCALE = 0.1
"""What the last layer's inputs are scaled to at first. Most of a heatmap's pixels should be 0: at a
scale of 1, steps at a rate of 1e-3 shift them all at once, and from then on undo each other.
"""


class _Refine(nnx.Module):
    """x plus a 3x3 convolution of GELU of its norm."""

    def __init__(self, channels: int, new: NewLayers) -> None:
        self.norm = new.layer_norm(channels)
        self.conv = new.conv3x3(channels, channels)

    def __call__(self, x: Array) -> Array:
        return x + self.conv(gelu(self.norm(x)))


class _Stem(nnx.Module):
    """The crop's maps, finest first, each half the size of the one before.

    The first layer is at 1/2 of the crop: a non-linearity at full detail is what finds edges.
    Pixels are gathered into channels, not skipped, so that a map's cells lie in the middle of the
    pixels that they stand for, in the crop and in its mirror image.
    """

    def __init__(self, config: NeckConfig, new: NewLayers) -> None:
        channels = config.channels
        half = channels // 2
        self.finest = config.finest
        self.first = new.conv3x3(3 * 2**2, half)
        self.first_norm = new.layer_norm(half)
        self.join = new.linear(half * (config.finest // 2) ** 2, channels)
        coarser = config.detail_strides[1:]
        self.shrink = nnx.List([new.linear(4 * channels, channels) for _ in coarser])
        self.refine = nnx.List([_refinements(config, new) for _ in config.detail_strides])

    def __call__(self, crops: Array) -> list[Array]:
        x = gelu(self.first_norm(self.first(space_to_depth(crops, 2))))
        x = self.join(space_to_depth(x, self.finest // 2))
        maps = [_apply(self.refine[0], x)]
        for shrink, refine in zip(self.shrink, self.refine[1:], strict=True):
            maps.append(_apply(refine, shrink(space_to_depth(maps[-1], 2))))
        return maps


def _refinements(config: NeckConfig, new: NewLayers) -> nnx.List[_Refine]:
    return nnx.List([_Refine(config.channels, new) for _ in range(config.depth)])


def _apply(layers: nnx.List[_Refine], x: Array) -> Array:
    return reduce(lambda x, layer: layer(x), layers, x)


class DetailPyramid(nnx.Module):
    """Corrects a decoder's heatmaps by a pyramid over the crop and the backbone's maps.

    From 1/16 of the crop to `config.finest`: the stem's map, the upsampled sum so far, at 1/16 the
    backbone's last and tapped maps, at 1/4 the map that the decoder's last layer reads; then 3x3
    convolutions. A 1x1 convolution, zero at first, makes the correction.
    """

    def __init__(
        self,
        config: NeckConfig,
        decoder: DecoderConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.config, self.dtype = config, jnp.dtype(dtype)
        new, channels = NewLayers(config.init_std, dtype, rngs), config.channels
        self.stem = _Stem(config, new) if "image" in config.sources else None
        read = len(config.taps) + 1 if "backbone" in config.sources else 0
        self.from_backbone = nnx.List([new.linear(config.width, channels) for _ in range(read)])
        self.from_decoder = (
            new.linear(decoder.last_channels, channels) if "decoder" in config.sources else None
        )
        self.refine = nnx.List([_refinements(config, new) for _ in config.detail_strides])
        scale = nnx.initializers.constant(OUT_SCALE)
        self.out_norm = LayerNorm(channels, scale_init=scale, dtype=dtype, rngs=rngs)
        zeros = nnx.initializers.zeros_init()
        keypoints = decoder.num_keypoints
        self.out = Dense(channels, keypoints, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        crops: Crops,
        features: Float[Array, "batch _ _ _"],
        taps: Sequence[Float[Array, "batch _ _ _"]],
        decoded: Float[Array, "batch _ _ _"],
        heatmaps: Float32[Array, "batch _ _ keypoints"],
    ) -> Float32[Array, "batch _ _ keypoints"]:
        """Corrected heatmaps, at 1/4 of the crop or at `config.finest` if that is finer.

        Args:
            crops: normalised.
            features: the backbone's last map after its final norm.
            taps: its maps of `config.taps`.
            decoded: the map that the decoder's last layer reads, at 1/4.
            heatmaps: the decoder's.
        """
        correction = self.correction(crops, features, taps, decoded)
        size = max(size_of(heatmaps), size_of(correction))
        return resize_aligned(heatmaps, size) + resize_bilinear(correction, size)

    def correction(
        self,
        crops: Crops,
        features: Float[Array, "batch _ _ _"],
        taps: Sequence[Float[Array, "batch _ _ _"]],
        decoded: Float[Array, "batch _ _ _"],
    ) -> Float32[Array, "batch _ _ keypoints"]:
        """What is added to the heatmaps, at `config.finest`."""
        strides = self.config.detail_strides
        parts: list[list[Array]] = [[] for _ in strides]
        if self.stem is not None:
            parts = [[x] for x in self.stem(jnp.asarray(crops, self.dtype))]
        if self.from_backbone:
            read = zip(self.from_backbone, [*taps, features], strict=True)
            parts[-1] += [project(x) for project, x in read]
        if self.from_decoder is not None:
            stride = max(HEATMAP_STRIDE, strides[0])
            pooled = average_pool(decoded, stride // HEATMAP_STRIDE)
            parts[strides.index(stride)].append(self.from_decoder(pooled))
        height, width = crops.shape[1:3]
        merged: Array | None = None
        for stride, found, refine in reversed(list(zip(strides, parts, self.refine, strict=True))):
            if merged is not None:
                found = [*found, resize_bilinear(merged, (height // stride, width // stride))]
            if found:
                merged = _apply(refine, reduce(jnp.add, found))
        assert merged is not None  # there is at least one source
        return self.out(self.out_norm(merged)).astype(jnp.float32)
