"""Necks: what may stand between a ViT's feature maps and the decoder.

A plain ViT gives one map at 1/16 of the crop. The necks here turn it (and, if asked for, the
outputs of earlier blocks) into the one map the decoder reads:

- `StridedPyramid`: the feature pyramid of the ViTPose-FPN study over the last map: 1x1
  convolutions down, laterals, a top-down path, 3x3 convolutions; the maps are resized to the
  first one's size and concatenated.
- `BlockFusion`: that study's other pyramid: several blocks' maps, each reduced by a strided
  3x3 convolution, upsampled, smoothed and summed.
- `SimplePyramid`: the simple feature pyramid of ViTDet (Li et al., ECCV 2022, section 3): up by
  transposed convolutions and down by pooling from the last map alone, summed at 1/4.
- `ResidualPyramid`: the last map plus a pyramid branch whose last layer starts at zero, so that
  with the pretrained decoder the model starts out as exactly the model without a neck.

Each doubtful choice of the original study is one switch of `NeckConfig`, with the sound choice
as its default, so that a study can turn one at a time.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.models.layers import BatchNorm, Dense, LayerNorm

Array = jax.Array
Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class NeckConfig:
    """Which neck, and its choices.

    Attributes:
        kind: "strided", "blocks", "simple" or "residual" (see the module's docstring).
        width: channels of the backbone's maps.
        strides: "strided", "blocks" and "residual": one a level. The original's "blocks"
            default is 3 ** i, coarsest first: (9, 3, 1).
        taps: "blocks" and "residual": indices (from 0) of the blocks whose outputs are read.
        tap_norm: pass the tapped outputs through the backbone's final norm (the original's
            intermediate rows do not).
        channels: width of the pyramid's own maps ("simple", "residual").
        cumulative: "strided": each level's stride applies to the level before it, so that
            strides multiply (original), instead of to the backbone's map.
        downsample: "average" takes the mean of each stride x stride window, "subsample" keeps
            one pixel of it, as a strided 1x1 convolution does (original). "strided" only.
        top_down: "next" adds to each level the upsampled next coarser one, "coarsest" the
            coarsest one, everywhere (original). "strided" only.
        fuse: "concat" resizes all maps to the first one's size and concatenates them, "first"
            hands on the first map alone. "strided" only.
        init_std: standard deviation of the new convolutions' initial weights, as in the
            original (0.001); None scales them by their fan-in.
    """

    kind: str
    width: int
    strides: tuple[int, ...] = (1, 2, 4, 8)
    taps: tuple[int, ...] = ()
    tap_norm: bool = True
    channels: int = 256
    cumulative: bool = False
    downsample: str = "average"
    top_down: str = "next"
    fuse: str = "concat"
    init_std: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in {
            "kind": tuple(NECKS),
            "downsample": ("average", "subsample"),
            "top_down": ("next", "coarsest"),
            "fuse": ("concat", "first"),
        }.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"neck {name}={getattr(self, name)!r}: choose one of {allowed}")
        for name in ("strides", "taps"):  # lists, as JSON and ml_collections give them
            object.__setattr__(self, name, tuple(int(value) for value in getattr(self, name)))
        if not self.strides or min(self.strides) < 1:
            raise UserError(f"neck strides={self.strides}: one whole number >= 1 a level")
        if self.kind == "blocks" and len(self.taps) != len(self.strides):
            raise UserError(
                f"neck taps={self.taps} and strides={self.strides}: give one stride a tapped block"
            )
        if self.kind == "strided" and self.taps:
            raise UserError('neck taps: kind="strided" reads the last map only; use "blocks"')

    @property
    def out_channels(self) -> int:
        """Channels of the map the decoder gets."""
        if self.kind == "strided" and self.fuse == "concat":
            return len(self.strides) * self.width
        return self.channels if self.kind == "simple" else self.width

    @property
    def upscaling(self) -> int:
        """Size of the neck's output over the backbone's map."""
        return 4 if self.kind == "simple" else 1


def build_neck(
    config: NeckConfig, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs
) -> StridedPyramid | BlockFusion | SimplePyramid | ResidualPyramid:
    """The neck `config` describes. Every neck is called as `neck(features, taps, train=False)`.

    `features` (B, h, w, width) is the backbone's last map after its final norm, `taps` the list
    of maps of `config.taps`; the result is (B, h * upscaling, w * upscaling, out_channels) in
    the compute dtype.
    """
    return NECKS[config.kind](config, dtype=dtype, rngs=rngs)


def resize_bilinear(x: Array, size: Size) -> Array:
    """Bilinear upsampling of (B, h, w, C) with half-pixel centres, as align_corners=False."""
    if x.shape[1:3] == tuple(size):
        return x
    shape = (x.shape[0], *size, x.shape[3])
    return jax.image.resize(x, shape, method="bilinear", antialias=False)


def resize_nearest(x: Array, size: Size) -> Array:
    """Nearest-neighbour upsampling of (B, h, w, C); output row i reads row floor(i * h / H).

    PyTorch's rule; `jax.image.resize` rounds from pixel centres and differs where H / h is not
    whole. Where it is whole, rows and columns are repeated: the gradient of that is a sum, that of
    picking rows by index a scatter, which GPUs are slow at.
    """
    height, width = x.shape[1:3]
    if size[0] % height == 0 and size[1] % width == 0:
        spread = (x.shape[0], height, size[0] // height, width, size[1] // width, x.shape[3])
        return jnp.broadcast_to(x[:, :, None, :, None], spread).reshape(-1, *size, x.shape[3])
    rows, columns = (
        (jnp.arange(new) * old) // new for new, old in zip(size, x.shape[1:3], strict=True)
    )
    return x[:, rows][:, :, columns]


def subsample(x: Array, stride: int) -> Array:
    """Every `stride`-th row and column of (B, h, w, C), from the first."""
    return x[:, ::stride, ::stride]


def average_pool(x: Array, stride: int) -> Array:
    """Mean over stride x stride windows of (B, h, w, C), the last ones cut at the border.

    The size is that of `subsample`: ceil(h / stride) by ceil(w / stride).
    """
    if stride == 1:
        return x
    height, width = x.shape[1:3]
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    padding = ((0, 0), (0, rows * stride - height), (0, columns * stride - width), (0, 0))

    def window_sums(values: Array) -> Array:
        values = jnp.pad(values, padding)
        return values.reshape(-1, rows, stride, columns, stride, values.shape[3]).sum((2, 4))

    return window_sums(x) / window_sums(jnp.ones((1, height, width, 1), x.dtype))


def _kernel_init(std: float | None) -> nnx.Initializer:
    return nnx.initializers.lecun_normal() if std is None else nnx.initializers.normal(std)


def _linear(cin: int, cout: int, std: float | None, dtype: Any, rngs: nnx.Rngs) -> Dense:
    """A 1x1 convolution; a matrix product is several times faster on CPUs."""
    return Dense(cin, cout, kernel_init=_kernel_init(std), dtype=dtype, rngs=rngs)


def _conv3x3(
    cin: int,
    cout: int,
    std: float | None,
    dtype: Any,
    rngs: nnx.Rngs,
    *,
    stride: int = 1,
    groups: int = 1,
) -> nnx.Conv:
    return nnx.Conv(
        cin,
        cout,
        (3, 3),
        strides=stride,
        padding=1,
        feature_group_count=groups,
        kernel_init=_kernel_init(std),
        dtype=dtype,
        rngs=rngs,
    )


class StridedPyramid(nnx.Module):
    """The study's pyramid over the last map (its `FeaturePyramidNetwork`).

    With `cumulative`, "subsample" and "coarsest" it is the original as coded: of a 16x12 map,
    strides 1,2,4,8 leave 16x12, 8x6, 2x2 and 1x1.
    """

    def __init__(self, config: NeckConfig, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        width, std, levels = config.width, config.init_std, len(config.strides)
        self.bottom_convs = nnx.List(
            [_linear(width, width, std, dtype, rngs) for _ in range(levels)]
        )
        self.lateral_convs = nnx.List(
            [_linear(width, width, std, dtype, rngs) for _ in range(levels)]
        )
        self.output_convs = nnx.List(
            [_conv3x3(width, width, std, dtype, rngs) for _ in range(levels)]
        )

    def maps(self, features: Array) -> list[Array]:
        """The pyramid's levels, in the order of `strides`, each (B, h_i, w_i, width)."""
        reduce = subsample if self.config.downsample == "subsample" else average_pool
        bottom_up, below = [], features
        for conv, stride in zip(self.bottom_convs, self.config.strides, strict=True):
            level = conv(reduce(below, stride))
            bottom_up.append(level)
            below = level if self.config.cumulative else features

        laterals = [conv(x) for conv, x in zip(self.lateral_convs, bottom_up, strict=True)]
        merged = [laterals[-1]]  # finest first
        for lateral in reversed(laterals[:-1]):
            above = merged[0] if self.config.top_down == "next" else merged[-1]
            merged.insert(0, lateral + resize_nearest(above, lateral.shape[1:3]))
        return [conv(x) for conv, x in zip(self.output_convs, merged, strict=True)]

    def __call__(self, features: Array, taps: list[Array] = (), *, train: bool = False) -> Array:
        """(B, h, w, width) -> (B, h_0, w_0, out_channels); see `build_neck`."""
        maps = self.maps(features)
        if self.config.fuse == "first":
            return maps[0]
        return jnp.concatenate([resize_bilinear(x, maps[0].shape[1:3]) for x in maps], axis=-1)


class BlockFusion(nnx.Module):
    """The study's pyramid over several blocks (in its `TopdownHeatmapSimpleHeadFPN`).

    Each tapped map: 1x1 convolution, strided 3x3 convolution, bilinear upsampling to the largest
    of them, depthwise 3x3 convolution with BatchNorm and ReLU; then the sum.
    """

    def __init__(self, config: NeckConfig, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        width, std = config.width, config.init_std
        # The original gives its small weights to the smoothing convolutions alone; the first two
        # keep PyTorch's default, which is fan-in scaled.
        self.proj_layers = nnx.List([_linear(width, width, None, dtype, rngs) for _ in config.taps])
        self.stride_convs = nnx.List(
            [_conv3x3(width, width, None, dtype, rngs, stride=s) for s in config.strides]
        )
        self.smooth_convs = nnx.List(
            [_conv3x3(width, width, std, dtype, rngs, groups=width) for _ in config.taps]
        )
        self.smooth_norms = nnx.List([BatchNorm(width, dtype=dtype) for _ in config.taps])

    def __call__(self, features: Array, taps: list[Array], *, train: bool = False) -> Array:
        """Maps of the tapped blocks, each (B, h, w, width) -> their fusion; see `build_neck`."""
        maps = [
            conv(proj(x))
            for conv, proj, x in zip(self.stride_convs, self.proj_layers, taps, strict=True)
        ]
        size = max((x.shape[1:3] for x in maps), key=math.prod)
        fused = 0.0
        for x, conv, norm in zip(maps, self.smooth_convs, self.smooth_norms, strict=True):
            fused = fused + nnx.relu(norm(conv(resize_bilinear(x, size)), train=train))
        return fused


class _Level(nnx.Module):
    """1x1 convolution, norm, 3x3 convolution, norm: what ViTDet puts on every level."""

    def __init__(self, cin: int, cout: int, std: float | None, dtype: Any, rngs: nnx.Rngs):
        self.lateral = _linear(cin, cout, std, dtype, rngs)
        self.lateral_norm = LayerNorm(cout, dtype=dtype, rngs=rngs)
        self.output = _conv3x3(cout, cout, std, dtype, rngs)
        self.output_norm = LayerNorm(cout, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.output_norm(self.output(self.lateral_norm(self.lateral(x))))


class _Upsample2(nnx.Module):
    """Transposed convolution with kernel 2 and stride 2: (B, h, w, cin) -> (B, 2h, 2w, cout).

    Its windows do not overlap, so it is one matrix product.
    """

    def __init__(self, cin: int, cout: int, std: float | None, dtype: Any, rngs: nnx.Rngs):
        self.linear = _linear(cin, 4 * cout, std, dtype, rngs)

    def __call__(self, x: Array) -> Array:
        batch, height, width, _ = x.shape
        x = self.linear(x).reshape(batch, height, width, 2, 2, -1)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, -1)


class SimplePyramid(nnx.Module):
    """ViTDet's pyramid from the last map: 1/4, 1/8, 1/16 and 1/32 of the crop.

    The levels are upsampled to 1/4, the heatmaps' size, and summed (a sum is what pyramids use
    for dense prediction: Kirillov et al., Panoptic FPN, CVPR 2019); then ReLU. The decoder that
    follows needs no transposed convolutions (`DecoderConfig(kind="classic", filters=())`).
    """

    def __init__(self, config: NeckConfig, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        width, channels, std = config.width, config.channels, config.init_std
        half, quarter = width // 2, width // 4
        self.up_first = _Upsample2(width, half, std, dtype, rngs)
        self.up_norm = LayerNorm(half, dtype=dtype, rngs=rngs)
        self.up_second = _Upsample2(half, quarter, std, dtype, rngs)
        self.up_single = _Upsample2(width, half, std, dtype, rngs)
        self.levels = nnx.List(
            [_Level(cin, channels, std, dtype, rngs) for cin in (quarter, half, width, width)]
        )

    def __call__(self, features: Array, taps: list[Array] = (), *, train: bool = False) -> Array:
        """(B, h, w, width) -> (B, 4h, 4w, channels); see `build_neck`."""
        maps = [
            self.up_second(nnx.gelu(self.up_norm(self.up_first(features)))),
            self.up_single(features),
            features,
            nnx.max_pool(features, (2, 2), strides=(2, 2), padding="SAME"),
        ]
        maps = [level(x) for level, x in zip(self.levels, maps, strict=True)]
        return nnx.relu(sum(resize_bilinear(x, maps[0].shape[1:3]) for x in maps))


class ResidualPyramid(nnx.Module):
    """The last map plus what a pyramid over several blocks has to add to it.

    The tapped maps (after the final norm, by default) and the last one are projected and summed;
    of the sum, levels are made by mean pooling with each of `strides`, each with its 3x3
    convolution; a top-down path brings the coarse context back to full size; a last 1x1
    convolution, zero at first, returns to the backbone's channels.
    """

    def __init__(self, config: NeckConfig, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        self.config = config
        width, channels, std = config.width, config.channels, config.init_std
        inputs = len(config.taps) + 1
        self.proj_layers = nnx.List(
            [_linear(width, channels, std, dtype, rngs) for _ in range(inputs)]
        )
        self.level_norms = nnx.List(
            [LayerNorm(channels, dtype=dtype, rngs=rngs) for _ in config.strides]
        )
        self.level_convs = nnx.List(
            [_conv3x3(channels, channels, std, dtype, rngs) for _ in config.strides]
        )
        self.out_norm = LayerNorm(channels, dtype=dtype, rngs=rngs)
        zeros = nnx.initializers.zeros_init()
        self.out = Dense(channels, width, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, features: Array, taps: list[Array] = (), *, train: bool = False) -> Array:
        """(B, h, w, width) -> (B, h, w, width); see `build_neck`."""
        inputs = zip(self.proj_layers, [*taps, features], strict=True)
        joined = sum(proj(x) for proj, x in inputs)
        coarser = None
        levels = zip(self.config.strides, self.level_norms, self.level_convs, strict=True)
        for stride, norm, conv in reversed(list(levels)):
            level = nnx.gelu(conv(norm(average_pool(joined, stride))))
            if coarser is not None:
                level = level + resize_bilinear(coarser, level.shape[1:3])
            coarser = level
        branch = resize_bilinear(coarser, features.shape[1:3])
        return features + self.out(self.out_norm(branch + joined))


NECKS = {
    "strided": StridedPyramid,
    "blocks": BlockFusion,
    "simple": SimplePyramid,
    "residual": ResidualPyramid,
}
