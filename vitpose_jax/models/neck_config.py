"""The configuration of a neck, and the layers that all of them are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vitpose_jax.errors import UserError
from vitpose_jax.models.layers import Dense, LayerNorm

KINDS = ("strided", "blocks", "simple", "residual", "detail")
SOURCES = ("image", "backbone", "decoder")
DETAIL_STRIDES = (2, 4, 8, 16)
MAX_DEPTH = 16


@dataclass(frozen=True)
class NeckConfig:
    """The kind of neck, and its options.

    Attributes:
        kind: "strided", "blocks", "simple" or "residual" (see `necks`), or "detail" (see
            `detail_pyramid`).
        width: channels of the backbone's maps.
        strides: "strided", "blocks" and "residual": one per level. The original's default for
            "blocks" is 3 ** i, coarsest first: (9, 3, 1).
        taps: indices (from 0) of the blocks whose outputs are read; not by "strided" and "simple".
        tap_norm: pass the tapped outputs through the backbone's final norm (the original does
            not).
        channels: width of the pyramid's own maps ("simple", "residual", "detail"; 64 suits the
            last).
        cumulative: "strided": each level's stride applies to the preceding level, so that strides
            multiply (original), instead of to the backbone's map.
        downsample: "average" takes the mean of each stride x stride window, "subsample" keeps
            one pixel of it, as a strided 1x1 convolution does (original). "strided" only.
        top_down: "next" adds the next coarser level, upsampled, to each level; "coarsest" adds the
            coarsest level to all (original). "strided" only.
        fuse: "concat" resizes all maps to the first one's size and concatenates them; "first"
            returns only the first map. "strided" only.
        init_std: standard deviation of the new convolutions' initial weights, as in the
            original (0.001); None scales them by their fan-in.
        depth: "detail": 3x3 convolutions for each map of its stem and of its top-down path.
        finest: "detail": the stride of its finest map over the crop, 2, 4, 8 or 16. With 2,
            heatmaps have twice their usual size.
        sources: "detail": what it reads, of "image", "backbone" and "decoder".

    Example:
        >>> neck = NeckConfig("residual", width=24, strides=(1, 2), taps=(0,), channels=16)
        >>> backbone = ViTConfig(width=24, depth=1, num_heads=3)
        >>> config = PoseConfig(backbone, DecoderConfig(in_channels=neck.out_channels), neck)
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
    depth: int = 1
    finest: int = 4
    sources: tuple[str, ...] = SOURCES

    def __post_init__(self) -> None:
        for name, allowed in {
            "kind": KINDS,
            "downsample": ("average", "subsample"),
            "top_down": ("next", "coarsest"),
            "fuse": ("concat", "first"),
            "finest": DETAIL_STRIDES,
        }.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"neck {name}={getattr(self, name)!r}: choose one of {allowed}")
        for name in ("strides", "taps"):  # lists, as JSON and ml_collections give them
            object.__setattr__(self, name, tuple(int(value) for value in getattr(self, name)))
        if not self.strides or min(self.strides) < 1:
            raise UserError(f"neck strides={self.strides}: one whole number >= 1 per level")
        if self.kind == "blocks" and len(self.taps) != len(self.strides):
            raise UserError(
                f"neck taps={self.taps} and strides={self.strides}: give one stride per tapped "
                "block"
            )
        object.__setattr__(self, "sources", tuple(self.sources))
        if not self.sources or not set(self.sources) <= set(SOURCES):
            raise UserError(f"neck sources={self.sources}: choose at least one of {SOURCES}")
        if self.taps and "backbone" not in self.sources:
            raise UserError(f"neck taps={self.taps} are the backbone's: add it to its sources")
        if not 0 <= self.depth <= MAX_DEPTH:
            raise UserError(f"neck depth={self.depth}: a whole number from 0 to {MAX_DEPTH}")
        if self.kind == "strided" and self.taps:
            raise UserError('neck taps: kind="strided" reads the last map only; use "blocks"')

    @property
    def out_channels(self) -> int:
        """Channels of the map that the decoder receives."""
        if self.kind == "strided" and self.fuse == "concat":
            return len(self.strides) * self.width
        return self.channels if self.kind == "simple" else self.width

    @property
    def upscaling(self) -> int:
        """How many times larger it makes the heatmaps."""
        if self.kind == "detail":
            return 2 if self.finest == 2 else 1
        return 4 if self.kind == "simple" else 1

    @property
    def detail_strides(self) -> tuple[int, ...]:
        """Strides of a "detail" neck's maps over the crop, finest first."""
        return tuple(stride for stride in DETAIL_STRIDES if stride >= self.finest)


Features = Float[Array, "batch height width channels"]
Taps = Sequence[Float[Array, "batch height width channels"]]


@dataclass(frozen=True)
class NewLayers:
    """Makes a neck's layers; `std` is for their kernels, None scales it by their fan-in."""

    std: float | None
    dtype: DTypeLike
    rngs: nnx.Rngs

    def _kernel_init(self) -> nnx.Initializer:
        if self.std is None:
            return nnx.initializers.lecun_normal()
        return nnx.initializers.normal(self.std)

    def linear(self, inputs: int, outputs: int) -> Dense:
        """A 1x1 convolution; as a matrix product it is several times faster on CPUs."""
        return Dense(
            inputs, outputs, kernel_init=self._kernel_init(), dtype=self.dtype, rngs=self.rngs
        )

    def conv3x3(self, inputs: int, outputs: int, *, stride: int = 1, groups: int = 1) -> nnx.Conv:
        return nnx.Conv(
            inputs,
            outputs,
            (3, 3),
            strides=stride,
            padding=1,
            feature_group_count=groups,
            kernel_init=self._kernel_init(),
            dtype=self.dtype,
            rngs=self.rngs,
        )

    def layer_norm(self, channels: int) -> LayerNorm:
        return LayerNorm(channels, dtype=self.dtype, rngs=self.rngs)
