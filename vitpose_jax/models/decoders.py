"""Heads that turn a feature map into heatmaps of four times its height and width."""

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from vitpose_jax.errors import UserError
from vitpose_jax.models.layers import BatchNorm, Deconv, Dense

_final_init = nnx.initializers.normal(0.001)


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of a head that turns a feature map into heatmaps.

    Attributes:
        kind: "classic" (deconvolutions) or "simple" (bilinear upsampling and one convolution).
        num_keypoints: number of heatmaps.
        in_channels: channels of the feature map.
        filters: channels of the classic decoder's deconvolutions.

    Example:
        >>> DecoderConfig("simple", num_keypoints=133, in_channels=384).upscaling
        4
    """

    kind: str = "classic"
    num_keypoints: int = 17
    in_channels: int = 768
    filters: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", tuple(self.filters))
        if self.kind not in DECODERS:
            raise UserError(f"no decoder {self.kind!r}: choose one of {', '.join(DECODERS)}")

    @property
    def upscaling(self) -> int:
        """Heatmap size over feature map size."""
        return 2 ** len(self.filters) if self.kind == "classic" else SIMPLE_UPSCALING

    @property
    def last_channels(self) -> int:
        """Channels of the map that `with_last_map` returns beside the heatmaps."""
        return (
            (self.in_channels, *self.filters)[-1] if self.kind == "classic" else self.num_keypoints
        )


SIMPLE_UPSCALING = 4


class ClassicDecoder(nnx.Module):
    """Deconvolutions that double the size, each with batch norm and ReLU, then a 1x1 conv."""

    def __init__(
        self, config: DecoderConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        channels = (config.in_channels, *config.filters)
        self.deconvs = nnx.List(
            [
                Deconv(inputs, outputs, dtype=dtype, rngs=rngs)
                for inputs, outputs in pairwise(channels)
            ]
        )
        self.norms = nnx.List([BatchNorm(width, dtype=dtype) for width in config.filters])
        self.final = Dense(
            channels[-1], config.num_keypoints, dtype=dtype, kernel_init=_final_init, rngs=rngs
        )

    def __call__(
        self, features: Float[Array, "b h w _"], *, train: bool = False
    ) -> Float32[Array, "b _ _ _"]:
        """Heatmaps of a feature map; `train` uses and updates batch statistics."""
        return self.with_last_map(features, train=train)[0]

    def with_last_map(
        self, features: Float[Array, "b h w _"], *, train: bool = False
    ) -> tuple[Float32[Array, "b _ _ _"], Float[Array, "b _ _ _"]]:
        """Heatmaps, and the map from which the last layer computes them."""
        x = features
        for deconv, norm in zip(self.deconvs, self.norms, strict=True):
            x = jax.nn.relu(norm(deconv(x), train=train))
        return self.final(x).astype(jnp.float32), x


class SimpleDecoder(nnx.Module):
    """ReLU, bilinear upsampling by four (corners not aligned), 3x3 convolution."""

    def __init__(
        self, config: DecoderConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        self.dtype = jnp.dtype(dtype)
        self.final = nnx.Conv(
            config.in_channels,
            config.num_keypoints,
            (3, 3),
            dtype=dtype,
            kernel_init=_final_init,
            rngs=rngs,
        )

    def __call__(
        self, features: Float[Array, "b h w _"], *, train: bool = False
    ) -> Float32[Array, "b 4*h 4*w _"]:
        """Heatmaps of a feature map, the same in training."""
        batch, height, width, channels = features.shape
        height, width = height * SIMPLE_UPSCALING, width * SIMPLE_UPSCALING
        # Upsampling and convolution are linear, so the kernel's nine taps are applied to the small
        # map and the results enlarged, which is a fraction of the work.
        kernel = self.final.kernel[...].astype(self.dtype)
        taps = jnp.matmul(
            jax.nn.relu(features.astype(self.dtype)),
            kernel.transpose(2, 0, 1, 3).reshape(channels, -1),
            preferred_element_type=jnp.float32,
        )
        taps = jax.image.resize(taps, (batch, height, width, taps.shape[-1]), "bilinear")
        taps = jnp.pad(taps, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(
            batch, height + 2, width + 2, 3, 3, -1
        )
        shifted = [taps[:, i : i + height, j : j + width, i, j] for i in range(3) for j in range(3)]
        assert self.final.bias is not None
        return reduce(jnp.add, shifted) + self.final.bias[...]

    def with_last_map(
        self, features: Float[Array, "b h w _"], *, train: bool = False
    ) -> tuple[Float32[Array, "b 4*h 4*w _"], Float32[Array, "b 4*h 4*w _"]]:
        """Heatmaps, twice: they are the only map of their size that this decoder has."""
        heatmaps = self(features, train=train)
        return heatmaps, heatmaps


Decoder = ClassicDecoder | SimpleDecoder
DECODERS: dict[str, type[Decoder]] = {"classic": ClassicDecoder, "simple": SimpleDecoder}
