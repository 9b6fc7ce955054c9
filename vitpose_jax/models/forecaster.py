"""Our motion forecaster: a temporal transformer over person-centred, scale-normalised poses.

All future frames are predicted at once, as a residual on the last seen pose. The last layer starts
at zero, so before training this is exactly the zero-velocity baseline. Several networks with
different initial weights can be trained side by side; the forecast is their mean.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import mirrored_order
from vitpose_jax.models.layers import check_heads, dropout, fused_attention

DIFFERENCE_GAIN = 5.0
"""Brings velocities, a few percent of a person's size per frame, to the size of the positions, so
that one layer can read both. Each further order is about half as large again."""

KNOWN_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class ForecasterConfig:
    """The size of the problem and of the network.

    Attributes:
        num_joints, dims: J and D (2 or 3).
        observed, future: n and m, frames.
        flip_pairs: left-right joint pairs; if given, forecasts are averaged with those of the
            mirrored motion.
        fps: frame rate of the training data; forecasts at another rate are wrong.
        differences: orders of finite differences the network is given: 1 for velocities, 2 for
            accelerations too, ... Use 4 for exact positions; in noisy ones, all but the first
            order are noise.
        width, depth, num_heads, mlp_ratio: of the transformer over the observed frames.
        readout_width, readout_depth: of the residual MLP that turns all frames' tokens into the
            future.
        dropout: on every residual branch in training.
        members: number of networks that are trained, each on its own error, and averaged.

    Example:
        >>> config = ForecasterConfig(observed=10, future=5, members=3)
    """

    num_joints: int = 17
    dims: int = 2
    observed: int = 10
    future: int = 5
    flip_pairs: tuple[tuple[int, int], ...] = ()
    fps: float = 30.0
    differences: int = 1
    width: int = 64
    depth: int = 1
    num_heads: int = 4
    mlp_ratio: float = 2.0
    readout_width: int = 384
    readout_depth: int = 4
    dropout: float = 0.05
    members: int = 1

    def __post_init__(self) -> None:
        check_heads(self.width, self.num_heads)
        if self.members < 1:
            raise UserError(f"members is {self.members}: there must be at least one")
        pairs = tuple(tuple(pair) for pair in self.flip_pairs)  # JSON makes lists of them
        object.__setattr__(self, "flip_pairs", pairs)


Motion = Float[Array | np.ndarray, "batch frames joints dims"]
Seen = Bool[Array | np.ndarray, "batch frames joints"]


class Normalized(NamedTuple):
    """A motion made independent of where the person stands and how large they appear.

    Attributes:
        positions: relative to the last frame's centre, in units of `scale`; a missing joint is
            where it was last seen, or else where it is first seen, or else at the centre.
        last: the last seen pose, in input units.
        scale: the joints' root mean square distance from their centre, in input units.
    """

    positions: Motion
    last: Float[Array, "batch joints dims"]
    scale: Float[Array, "batch 1 1 1"]


def normalize_motion(observed: Motion, visible: Seen) -> Normalized:
    """Normalise a motion to the person's position and size."""
    observed, visible = jnp.asarray(observed), jnp.asarray(visible)
    frames = jnp.arange(observed.shape[1])[None, :, None]
    newest = jax.lax.cummax(jnp.where(visible, frames, -1), axis=1)
    source = jnp.where(newest >= 0, newest, jnp.argmax(visible, axis=1)[:, None])
    filled = jnp.take_along_axis(observed, source[..., None], axis=1)

    ever = visible.any(1)[:, None, :, None]
    count = jnp.maximum(ever.sum(2, keepdims=True), 1)
    centre = jnp.where(ever, filled, 0).sum(2, keepdims=True) / count
    filled = jnp.where(ever, filled, centre)
    spread = jnp.where(ever, jnp.square(filled - centre), 0).sum((2, 3), keepdims=True) / count
    scale = jnp.sqrt(spread.mean(1, keepdims=True))
    scale = jnp.where(scale > KNOWN_EPS, scale, 1.0)
    return Normalized((filled - centre[:, -1:]) / scale, filled[:, -1], scale)


class Block(nnx.Module):
    """Pre-norm transformer block with dropout on its branches."""

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs) -> None:
        self.num_heads, self.dropout = config.num_heads, config.dropout
        width, hidden = config.width, int(config.mlp_ratio * config.width)
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.proj = nnx.Linear(width, width, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.fc1 = nnx.Linear(width, hidden, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b frames c"], key: jax.Array | None
    ) -> Float[Array, "b frames c"]:
        """`key` drives dropout; None turns it off."""
        key1, key2 = (None, None) if key is None else jax.random.split(key)
        mixed = fused_attention(self.qkv(self.norm1(x)), self.num_heads)
        x = x + dropout(self.proj(mixed), self.dropout, key1)
        hidden = jax.nn.gelu(self.fc1(self.norm2(x)))
        return x + dropout(self.fc2(hidden), self.dropout, key2)


class ReadoutBlock(nnx.Module):
    """Residual MLP block over the whole motion."""

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs) -> None:
        width, self.dropout = config.readout_width, config.dropout
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.fc1 = nnx.Linear(width, width, rngs=rngs)
        self.fc2 = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "b c"], key: jax.Array | None) -> Float[Array, "b c"]:
        return x + dropout(self.fc2(jax.nn.gelu(self.fc1(self.norm(x)))), self.dropout, key)


class Member(nnx.Module):
    """One network: features of an observed motion -> the future as a residual on the last pose."""

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        joints, dims = config.num_joints, config.dims
        features = (joints + 1) * dims * (1 + config.differences) + joints
        start = nnx.initializers.normal(0.02)
        self.embed = nnx.Linear(features, config.width, rngs=rngs)
        self.frame_embed = nnx.Param(start(rngs.params(), (config.observed, config.width)))
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.depth)])
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)
        self.gather = nnx.Linear(config.observed * config.width, config.readout_width, rngs=rngs)
        self.readout = nnx.List(
            [ReadoutBlock(config, rngs=rngs) for _ in range(config.readout_depth)]
        )
        # The norms discard the size of a motion; this path extrapolates linearly.
        self.extrapolate = nnx.Linear(
            config.differences * joints * dims,
            config.future * joints * dims,
            use_bias=False,
            kernel_init=nnx.initializers.zeros,
            rngs=rngs,
        )
        self.readout_norm = nnx.LayerNorm(config.readout_width, rngs=rngs)
        self.out = nnx.Linear(
            config.readout_width,
            config.future * joints * dims,
            kernel_init=nnx.initializers.zeros,
            rngs=rngs,
        )

    def __call__(
        self,
        features: Float[Array, "batch frames _"],
        newest: Float[Array, "batch _"],
        key: jax.Array | None,
    ) -> Float[Array, "batch future joints dims"]:
        """The residual in person sizes, from `frame_features` and the last frame's differences."""
        config, batch = self.config, features.shape[0]
        x = self.embed(features) + self.frame_embed[...]
        for index, block in enumerate(self.blocks):
            x = block(x, _fold(key, index))
        x = self.gather(self.norm(x).reshape(batch, -1))
        for index, readout_block in enumerate(self.readout, start=config.depth):
            x = readout_block(x, _fold(key, index))
        residual = self.out(self.readout_norm(x)) + self.extrapolate(newest)
        return residual.reshape(batch, config.future, config.num_joints, config.dims)


class Forecaster(nnx.Module):
    """Forecasts joint positions; see the module's docstring. Everything is in float32.

    Example:
        >>> config = ForecasterConfig(width=8, num_heads=2, readout_width=8, readout_depth=1)
        >>> forecaster = Forecaster(config, rngs=nnx.Rngs(0))
        >>> motion = np.ones((1, 10, 17, 2), np.float32)  # batch, frames, joints, x and y
        >>> forecaster.forecast(motion, visible=np.ones((1, 10, 17), bool)).shape
        (1, 5, 17, 2)
    """

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.members = nnx.List([Member(config, rngs=rngs) for _ in range(config.members)])

    def __call__(
        self, observed: Motion, visible: Seen, *, key: jax.Array | None = None
    ) -> Float[Array, "batch future joints dims"]:
        """The future of a motion, in its units and frame.

        Args:
            observed: pixels or metres; missing joints may hold anything finite.
            visible: which joints were seen.
            key: turns on dropout.
        """
        return self.by_member(observed, visible, key=key).mean(0)

    def by_member(
        self, observed: Motion, visible: Seen, *, key: jax.Array | None = None
    ) -> Float[Array, "members batch future joints dims"]:
        """As `__call__`, but with each network's own forecast."""
        motion = normalize_motion(observed, visible)
        moves = differences(motion.positions, visible, self.config.differences)
        features = frame_features(motion.positions, moves, visible)
        newest = jnp.stack([move[:, -1] for move in moves], 1).reshape(len(observed), -1)
        # The first uses the model's key itself, so that a single network draws what it would alone.
        keys = [key, *(_fold(key, 1000 + index) for index in range(1, len(self.members)))]
        residuals = [
            member(features, newest, key) for member, key in zip(self.members, keys, strict=True)
        ]
        return motion.last[:, None] + motion.scale * jnp.stack(residuals)

    def forecast(self, observed: Motion, visible: Seen) -> Float[Array, "batch future joints dims"]:
        """As `__call__`, averaged with the mirrored motion's forecast if flip pairs are known."""
        future = self(observed, visible)
        if not self.config.flip_pairs:
            return future
        index = mirrored_order(self.config.num_joints, self.config.flip_pairs)
        mirror = jnp.ones(self.config.dims).at[0].set(-1)
        mirrored = self(observed[:, :, index] * mirror, visible[:, :, index])
        return (future + mirrored[:, :, index] * mirror) / 2


def differences(positions: Motion, visible: Seen, orders: int) -> list[Motion]:
    """Velocities, accelerations, ...: scaled finite differences to the preceding frames.

    Order k = 1, 2, ... is multiplied by DIFFERENCE_GAIN * 2^(k - 1), and 0 where a joint was not
    seen in all of the k + 1 frames.
    """
    moves, seen = [], visible
    for order in range(orders):
        before = jnp.pad(seen[:, :-1], ((0, 0), (1, 0), (0, 0)))
        seen = seen & before
        steps = jnp.diff(positions, axis=1, prepend=positions[:, :1])
        positions = jnp.where(seen[..., None], steps, 0)
        moves.append(DIFFERENCE_GAIN * 2**order * positions)
    return moves


def frame_features(
    positions: Motion, moves: list[Motion], visible: Seen
) -> Float[Array, "batch frames features"]:
    """The network's input for each frame: (J + 1) D (1 + len(moves)) + J numbers.

    These are the joints relative to their frame's centre, their differences, and which were seen;
    and the centre and its differences, mostly due to camera motion and walking.
    """
    batch, frames = visible.shape[:2]
    parts = [visible.astype(positions.dtype)]
    for part in (positions, *moves):
        centre = part.mean(2, keepdims=True)
        parts += [x.reshape(batch, frames, -1) for x in (part - centre, centre)]
    return jnp.concatenate(parts, axis=-1)


def _fold(key: jax.Array | None, index: int) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, index)
