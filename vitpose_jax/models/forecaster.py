"""Our motion forecaster: a temporal transformer over person-centred, scale-normalised poses.

All future frames are predicted at once, as a residual on a simple forecast: the last seen pose, or
if `mixture` is on, a learned mixture of standing still and moving on. The last layer starts at
zero, so before training this is exactly that simple forecast. People in one scene can be forecast
together (`people`). Several networks with different initial weights can be trained side by side;
the forecast is their mean.
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

COVERAGES = (0.5, 0.9)
"""The shares of true positives that lie within the radii of `Forecaster.with_spread`."""

START_DAMPING = (0.9, 0.5)
"""What share of their velocity the centre, and the joints around it, keep from frame to frame in a
mixture before training."""

NEAR = 4.0
"""Person sizes; differences between distances far beyond that are not told apart."""


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
        people: whether several people in one scene are forecast together. All arrays then have an
            axis of people after the batch's: any number of them, in any order.
        mixture: whether the forecast is a residual on a learned mixture of standing still, moving
            on with the body's centre, and moving on with every joint, each damped as the network
            finds best for every future frame, instead of on the last pose.
        path: whether the centre's path and the pose around it are forecast apart.
        heading: the left and right hip. If given, the network sees all people turned to face the
            same way about the second axis, which must be vertical (3D only).
        spread: whether the network also says how far from its forecast the truth may be.

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
    people: bool = False
    mixture: bool = False
    path: bool = False
    heading: tuple[int, int] | None = None
    spread: bool = False

    def __post_init__(self) -> None:
        check_heads(self.width, self.num_heads)
        if self.heading is not None:
            object.__setattr__(self, "heading", tuple(self.heading))
            if self.dims != 3 or not all(0 <= hip < self.num_joints for hip in self.heading):
                raise UserError(
                    f"heading is {self.heading}: it takes two of the {self.num_joints} joints, and "
                    f"3 dimensions, not {self.dims}"
                )
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
        origin: the last frame's centre, in input units.
    """

    positions: Motion
    last: Float[Array, "batch joints dims"]
    scale: Float[Array, "batch 1 1 1"]
    origin: Float[Array, "batch 1 1 dims"]


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
    origin = centre[:, -1:]
    return Normalized((filled - origin) / scale, filled[:, -1], scale, origin)


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
        self, scene: "Scene", key: jax.Array | None
    ) -> tuple[Float[Array, "people future joints dims"], Float[Array, "people _"]]:
        """The change from the last pose in person sizes, and what the radii are read from."""
        config, people = self.config, scene.features.shape[0]
        x = self.embed(scene.features) + self.frame_embed[...]
        for index, block in enumerate(self.blocks):
            x = block(x, _fold(key, index))
        x = self.gather(self.norm(x).reshape(people, -1))
        if scene.relations is not None:
            batch = scene.relations.shape[:2]
            met = self.company(x.reshape(*batch, -1), scene.relations, scene.there)
            x = x + met.reshape(x.shape)
        for index, readout_block in enumerate(self.readout, start=config.depth):
            x = readout_block(x, _fold(key, index))
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
        gates = 2 * jax.nn.sigmoid(self.gate(x)).reshape(len(x), self.config.future, 2)
        moved = [
            jnp.einsum("pm,mn,pnjd->pmjd", gates[..., index], self.taps[...][index], part)
            for index, part in enumerate((centre, steps - centre))
        ]
        return moved[0] + moved[1]

    def radii_of(self, x: Float[Array, "people _"]) -> Float[Array, "people future joints radii"]:
        """Radii in person sizes that hold the shares `COVERAGES` of the true positions."""
        config = self.config
        raw = self.radii(x).reshape(len(x), config.future, config.num_joints, len(COVERAGES))
        # They grow with time before training, and an outer one is never within an inner one.
        growth = 0.1 * jnp.sqrt(jnp.arange(1, config.future + 1, dtype=x.dtype))
        return jnp.cumsum(growth[:, None, None] * jnp.exp(raw), -1)


class Scene(NamedTuple):
    """What the network is given of people's observed motion, all in their own frames and sizes.

    Attributes:
        positions: as in `Normalized`, turned by `heading`.
        moves: from `differences`.
        features: from `frame_features`.
        relations: from `relations_of`; None for people alone.
        there: which people were seen at all (batch, people).
    """

    positions: Motion
    moves: list[Motion]
    features: Float[Array, "people frames features"]
    relations: Float[Array, "batch people people _"] | None
    there: Bool[Array, "batch people"]


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
        self,
        observed: Float[Array | np.ndarray, "batch *people frames joints dims"],
        visible: Bool[Array | np.ndarray, "batch *people frames joints"],
        *,
        key: jax.Array | None = None,
    ) -> Float[Array, "batch *people future joints dims"]:
        """The future of a motion, in its units and frame.

        Args:
            observed: pixels or metres; missing joints may hold anything finite. With an axis of
                people if `config.people`.
            visible: which joints were seen. People of whom nothing was seen are not there.
            key: turns on dropout.
        """
        return self.by_member(observed, visible, key=key).mean(0)

    def by_member(
        self,
        observed: Float[Array | np.ndarray, "batch *people frames joints dims"],
        visible: Bool[Array | np.ndarray, "batch *people frames joints"],
        *,
        key: jax.Array | None = None,
    ) -> Float[Array, "members batch *people future joints dims"]:
        """As `__call__`, but with each network's own forecast."""
        return self.with_radii(observed, visible, key=key)[0]

    def with_radii(
        self,
        observed: Float[Array | np.ndarray, "batch *people frames joints dims"],
        visible: Bool[Array | np.ndarray, "batch *people frames joints"],
        *,
        key: jax.Array | None = None,
    ) -> tuple[
        Float[Array, "members batch *people future joints dims"],
        Float[Array, "members batch *people future joints radii"] | None,
    ]:
        """Each network's own forecast, and its radii if `config.spread`: see `with_spread`."""
        config = self.config
        lead, frames = observed.shape[:-3], observed.shape[-3:]
        if len(lead) != 1 + config.people:
            raise UserError(
                f"the motion has {len(observed.shape)} axes; this forecaster takes (batch, "
                f"{'people, ' if config.people else ''}frames, joints, dimensions)"
            )
        motion = normalize_motion(
            jnp.reshape(observed, (-1, *frames)), jnp.reshape(visible, (-1, *frames[:2]))
        )
        turn = _facing(motion.positions, config.heading)
        scene = self._scene(motion, turn, jnp.reshape(visible, (-1, *frames[:2])), lead)
        # The first uses the model's key itself, so that a single network draws what it would alone.
        keys = [key, *(_fold(key, 1000 + index) for index in range(1, len(self.members)))]
        futures, radii = [], []
        for member, own in zip(self.members, keys, strict=True):
            change, state = member(scene, own)
            if turn is not None:
                change = jnp.einsum("pmji,pki->pmjk", change, turn)
            change = motion.last[:, None] + motion.scale * change
            futures.append(change.reshape(*lead, *change.shape[1:]))
            if config.spread:
                radius = motion.scale * member.radii_of(state)
                radii.append(radius.reshape(*lead, *radius.shape[1:]))
        return jnp.stack(futures), jnp.stack(radii) if radii else None

    def _scene(
        self, motion: Normalized, turn: jax.Array | None, visible: Seen, lead: tuple[int, ...]
    ) -> Scene:
        positions = motion.positions
        if turn is not None:
            positions = jnp.einsum("pnji,pik->pnjk", positions, turn)
        moves = differences(positions, visible, self.config.differences)
        features = frame_features(positions, moves, visible)
        relations = relations_of(motion, turn, lead) if self.config.people else None
        return Scene(positions, moves, features, relations, visible.any((1, 2)).reshape(lead))

    def forecast(
        self,
        observed: Float[Array | np.ndarray, "batch *people frames joints dims"],
        visible: Bool[Array | np.ndarray, "batch *people frames joints"],
    ) -> Float[Array, "batch *people future joints dims"]:
        """As `__call__`, averaged with the mirrored motion's forecast if flip pairs are known."""
        future = self(observed, visible)
        if not self.config.flip_pairs:
            return future
        index = mirrored_order(self.config.num_joints, self.config.flip_pairs)
        mirror = jnp.ones(self.config.dims).at[0].set(-1)
        mirrored = self(observed[..., index, :] * mirror, visible[..., index])
        return (future + mirrored[..., index, :] * mirror) / 2

    def with_spread(
        self,
        observed: Float[Array | np.ndarray, "batch *people frames joints dims"],
        visible: Bool[Array | np.ndarray, "batch *people frames joints"],
    ) -> tuple[
        Float[Array, "batch *people future joints dims"],
        Float[Array, "batch *people future joints radii"],
    ]:
        """The forecast, and radii around it that hold 50% and 90% of the true positions.

        Raises:
            UserError: the forecaster was trained without `spread`.
        """
        if not self.config.spread:
            raise UserError("this forecaster was trained without config.model.spread")
        radii = self.with_radii(observed, visible)[1]
        assert radii is not None
        return self.forecast(observed, visible), radii.mean(0)


def _facing(positions: Motion, heading: tuple[int, int] | None) -> jax.Array | None:
    """Rotations (people, 3, 3) about the second axis, from the network's view to the input's.

    In the network's view the line from the right to the left hip runs along the first axis.
    """
    if heading is None:
        return None
    across = positions[:, -1, heading[0]] - positions[:, -1, heading[1]]
    length = jnp.hypot(across[:, 0], across[:, 2])
    known = length > 1e-3
    cos = jnp.where(known, across[:, 0] / jnp.where(known, length, 1), 1)
    sin = jnp.where(known, across[:, 2] / jnp.where(known, length, 1), 0)
    zero, one = jnp.zeros_like(cos), jnp.ones_like(cos)
    rows = [[cos, zero, -sin], [zero, one, zero], [sin, zero, cos]]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def relations_of(
    motion: Normalized, turn: jax.Array | None, lead: tuple[int, ...]
) -> Float[Array, "batch people people _"]:
    """How each person (second axis) sees the others (third): where they are, and their steps.

    Both are those of the centres, in the size and facing of the one who sees. Distances beyond
    `NEAR` are compressed. A camera that moves shows in the steps of all.
    """
    centres = motion.positions.mean(2) * motion.scale[:, 0] + motion.origin[:, 0]
    centres = centres.reshape(*lead, *centres.shape[1:])
    size = motion.scale.reshape(*lead, 1, 1, 1)
    away = (centres[:, None, :, -1:] - centres[:, :, None, -1:]) / size
    away = away / (1 + jnp.linalg.norm(away, axis=-1, keepdims=True) / NEAR)
    steps = jnp.diff(centres, axis=2)[:, None] / size * DIFFERENCE_GAIN
    seen = jnp.concatenate([away, steps], 3)
    if turn is not None:
        seen = jnp.einsum("bpqni,bpik->bpqnk", seen, turn.reshape(*lead, *turn.shape[1:]))
    return seen.reshape(*seen.shape[:3], -1)


def _start_taps(config: ForecasterConfig) -> jax.Array:
    """How the centre's and the joints' last steps go on before training: (2, future, steps)."""
    steps = config.observed - 1
    recent = np.zeros(steps, np.float32)
    recent[-3:] = 1 / max(min(3, steps), 1)
    ahead = np.arange(config.future)
    travel = [np.cumsum(damping**ahead) for damping in START_DAMPING]
    return jnp.asarray(np.stack(travel)[..., None] * recent, jnp.float32)


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
