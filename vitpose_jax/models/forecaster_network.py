"""The network inside our motion forecaster: from a scene's features to how people move on."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from vitpose_jax.models.forecaster_config import COVERAGES, ForecasterConfig
from vitpose_jax.models.layers import dropout, fused_attention
from vitpose_jax.models.motion_features import Motion, Scene

START_DAMPING = (0.9, 0.5)
"""What share of their velocity the centre, and the joints around it, keep from frame to frame in a
mixture before training."""


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


class Company(nnx.Module):
    """Attention of every person to the others in the scene, or to nobody."""

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs) -> None:
        width, dims = config.readout_width, config.dims
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.relation = nnx.Linear(config.observed * dims, width, rngs=rngs)
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.proj = nnx.Linear(width, width, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "batch people c"],
        relations: Float[Array, "batch people people _"],
        there: Bool[Array, "batch people"],
    ) -> Float[Array, "batch people c"]:
        """The others' part for each person, from `relations_of`; absent people are not seen."""
        seen = self.norm(x)[:, None] + jax.nn.gelu(self.relation(relations))
        query, key, value = self.query(self.norm(x)), self.key(seen), self.value(seen)
        logits = jnp.einsum("bic,bijc->bij", query, key) / query.shape[-1] ** 0.5
        others = there[:, None] & ~jnp.eye(x.shape[1], dtype=bool)
        logits = jnp.where(others, logits, -1e9)
        nobody = jnp.zeros((*logits.shape[:2], 1))
        weights = jax.nn.softmax(jnp.concatenate([logits, nobody], -1), -1)[..., :-1]
        return self.proj(jnp.einsum("bij,bijc->bic", weights, value))


class Member(nnx.Module):
    """One network: features of an observed motion -> how the future differs from the last pose."""

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        joints, dims = config.num_joints, config.dims
        features = (joints + 1) * dims * (1 + config.differences) + joints
        start = nnx.initializers.normal(0.02)
        zeros = nnx.initializers.zeros
        self.embed = nnx.Linear(features, config.width, rngs=rngs)
        self.frame_embed = nnx.Param(start(rngs.params(), (config.observed, config.width)))
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.depth)])
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)
        self.gather = nnx.Linear(config.observed * config.width, config.readout_width, rngs=rngs)
        self.readout = nnx.List(
            [ReadoutBlock(config, rngs=rngs) for _ in range(config.readout_depth)]
        )
        # The norms discard the size of a motion; these paths extrapolate linearly.
        if config.mixture:
            self.taps = nnx.Param(_start_taps(config))
            self.gate = nnx.Linear(
                config.readout_width, 2 * config.future, kernel_init=zeros, rngs=rngs
            )
        else:
            self.extrapolate = nnx.Linear(
                config.differences * joints * dims,
                config.future * joints * dims,
                use_bias=False,
                kernel_init=zeros,
                rngs=rngs,
            )
        self.readout_norm = nnx.LayerNorm(config.readout_width, rngs=rngs)
        outputs = config.future * (joints + config.path) * dims
        self.out = nnx.Linear(config.readout_width, outputs, kernel_init=zeros, rngs=rngs)
        if config.people:
            self.company = Company(config, rngs=rngs)
        if config.spread:
            self.radii = nnx.Linear(
                config.readout_width,
                config.future * joints * len(COVERAGES),
                kernel_init=zeros,
                rngs=rngs,
            )

    def __call__(
        self, scene: Scene, key: jax.Array | None
    ) -> tuple[Float[Array, "people future joints dims"], Float[Array, "people _"]]:
        """The change from the last pose in person sizes, and what the radii are read from."""
        config, people = self.config, scene.features.shape[0]
        x = self.embed(scene.features) + self.frame_embed[...]
        for index, block in enumerate(self.blocks):
            x = block(x, fold(key, index))
        x = self.gather(self.norm(x).reshape(people, -1))
        if scene.relations is not None:
            batch = scene.relations.shape[:2]
            met = self.company(x.reshape(*batch, -1), scene.relations, scene.there)
            x = x + met.reshape(x.shape)
        for index, readout_block in enumerate(self.readout, start=config.depth):
            x = readout_block(x, fold(key, index))
        x = self.readout_norm(x)
        change = self.out(x).reshape(people, config.future, -1, config.dims)
        if config.path:
            pose, path = change[:, :, :-1], change[:, :, -1:]
            change = pose - pose.mean(2, keepdims=True) + path
        if config.mixture:
            change = change + self._moved_on(x, scene.positions)
        else:
            newest = jnp.stack([move[:, -1] for move in scene.moves], 1).reshape(people, -1)
            change = change + self.extrapolate(newest).reshape(change.shape)
        return change, jax.lax.stop_gradient(x)

    def _moved_on(self, x: jax.Array, positions: Motion) -> jax.Array:
        """Steps of the last frames carried on, the centre's and those around it, each gated."""
        steps = jnp.diff(positions, axis=1)
        centre = steps.mean(2, keepdims=True)
        gates = 2 * jax.nn.sigmoid(self.gate(x)).reshape(x.shape[0], self.config.future, 2)
        moved = [
            jnp.einsum("pm,mn,pnjd->pmjd", gates[..., index], self.taps[...][index], part)
            for index, part in enumerate((centre, steps - centre))
        ]
        return moved[0] + moved[1]

    def radii_of(self, x: Float[Array, "people _"]) -> Float[Array, "people future joints radii"]:
        """Radii in person sizes that hold the shares `COVERAGES` of the true positions."""
        config = self.config
        raw = self.radii(x).reshape(x.shape[0], config.future, config.num_joints, len(COVERAGES))
        # They grow with time before training, and an outer one is never within an inner one.
        growth = 0.1 * jnp.sqrt(jnp.arange(1, config.future + 1, dtype=x.dtype))
        return jnp.cumsum(growth[:, None, None] * jnp.exp(raw), -1)


def _start_taps(config: ForecasterConfig) -> jax.Array:
    """How the centre's and the joints' last steps go on before training: (2, future, steps)."""
    steps = config.observed - 1
    recent = np.zeros(steps, np.float32)
    recent[-3:] = 1 / max(min(3, steps), 1)
    ahead = np.arange(config.future)
    travel = [np.cumsum(damping**ahead) for damping in START_DAMPING]
    return jnp.asarray(np.stack(travel)[..., None] * recent, jnp.float32)


def fold(key: jax.Array | None, index: int) -> jax.Array | None:
    """A key of its own for a part; None where dropout is off."""
    return None if key is None else jax.random.fold_in(key, index)
