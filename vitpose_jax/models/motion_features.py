"""What our forecaster sees of people's motion, independent of place, size and facing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

DIFFERENCE_GAIN = 5.0
"""Brings velocities, a few percent of a person's size per frame, to the size of the positions, so
that one layer can read both. Each further order is about half as large again."""

KNOWN_EPS = 1e-6

NEAR = 4.0
"""Person sizes; differences between distances far beyond that are not told apart."""

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


def facing(positions: Motion, heading: tuple[int, int] | None) -> jax.Array | None:
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
