"""The original pose predictor: a post-norm transformer encoder over whole frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from vitpose_jax.models.layers import check_heads, dropout, fused_attention

PIXEL_SCALE = 1280.0
"""The original divides pixel coordinates by this, whatever the image's size."""


@dataclasses.dataclass(frozen=True)
class PredictorConfig:
    """Defaults are the original's.

    Attributes:
        num_joints, dims: J and D; a frame enters as J x D numbers.
        observed: number of frames it was trained on; it accepts any number.
        future: number of frames to forecast: that many of the last outputs.
        fps: frame rate of the training data.
        num_frames: number of observed frames that have a learned position embedding, or 0. The
            original has none, so it cannot see the order of its input.
    """

    num_joints: int = 17
    dims: int = 2
    observed: int = 10
    future: int = 5
    fps: float = 30.0
    width: int = 120
    depth: int = 6
    num_heads: int = 8
    mlp_width: int = 2048
    dropout: float = 0.1
    num_frames: int = 0

    def __post_init__(self) -> None:
        check_heads(self.width, self.num_heads)

    @property
    def frame_size(self) -> int:
        return self.num_joints * self.dims


class EncoderLayer(nnx.Module):
    """PyTorch's `nn.TransformerEncoderLayer` with default settings: post-norm, ReLU."""

    def __init__(self, config: PredictorConfig, *, rngs: nnx.Rngs) -> None:
        self.num_heads, self.dropout = config.num_heads, config.dropout
        uniform = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        xavier = nnx.initializers.xavier_uniform()
        width = config.width
        self.qkv = nnx.Linear(width, 3 * width, kernel_init=xavier, rngs=rngs)
        self.proj = nnx.Linear(width, width, kernel_init=uniform, rngs=rngs)
        self.fc1 = nnx.Linear(width, config.mlp_width, kernel_init=uniform, rngs=rngs)
        self.fc2 = nnx.Linear(config.mlp_width, width, kernel_init=uniform, rngs=rngs)
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b frames c"], key: jax.Array | None
    ) -> Float[Array, "b frames c"]:
        """`key` drives dropout; None turns it off."""
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        mixed = self.proj(fused_attention(self.qkv(x), self.num_heads))
        x = self.norm1(x + dropout(mixed, self.dropout, keys[0]))
        hidden = dropout(jax.nn.relu(self.fc1(x)), self.dropout, keys[1])
        return self.norm2(x + dropout(self.fc2(hidden), self.dropout, keys[2]))


class PosePredictor(nnx.Module):
    """Linear, encoder, linear; there is one output per input frame."""

    def __init__(self, config: PredictorConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.input_proj = nnx.Linear(config.frame_size, config.width, rngs=rngs)
        self.layers = nnx.List([EncoderLayer(config, rngs=rngs) for _ in range(config.depth)])
        self.output_proj = nnx.Linear(config.width, config.frame_size, rngs=rngs)
        start = nnx.initializers.normal(0.02)
        self.positions = (
            nnx.Param(start(rngs.params(), (config.num_frames, config.width)))
            if config.num_frames
            else None
        )

    def __call__(
        self,
        frames: Float[Array | np.ndarray, "batch frames size"],
        *,
        key: jax.Array | None = None,
    ) -> Float[Array, "batch frames size"]:
        """Outputs for frames scaled as in training; `key` turns on dropout."""
        x = self.input_proj(jnp.asarray(frames))
        if self.positions is not None:
            x = x + self.positions[...]
        for index, layer in enumerate(self.layers):
            x = layer(x, None if key is None else jax.random.fold_in(key, index))
        return self.output_proj(x)

    def forecast(
        self,
        observed: Float[Array | np.ndarray, "batch frames joints dims"],
        visible: Bool[Array | np.ndarray, "batch frames joints"],
    ) -> Float[Array, "batch future joints dims"]:
        """The future of a motion in pixels: the last outputs, as in training.

        Missing joints are set to (0, 0), as in the original.
        """
        batch, seen, joints, dims = observed.shape
        known = jnp.where(visible[..., None], observed, 0)
        frames = known.reshape(batch, seen, joints * dims) / PIXEL_SCALE
        future = self(frames)[:, -self.config.future :] * PIXEL_SCALE
        return future.reshape(batch, self.config.future, joints, dims)
