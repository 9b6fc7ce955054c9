"""Our motion forecaster: a temporal transformer over person-centred, scale-normalised poses.

All future frames are predicted at once, as a residual on a simple forecast: the last seen pose, or
if `mixture` is on, a learned mixture of standing still and moving on. The last layer starts at
zero, so before training this is exactly that simple forecast. People in one scene can be forecast
together (`people`). Several networks with different initial weights can be trained side by side;
the forecast is their mean.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import mirrored_order
from vitpose_jax.models.forecaster_config import ForecasterConfig
from vitpose_jax.models.forecaster_network import Member, fold
from vitpose_jax.models.motion_features import (
    DIFFERENCE_GAIN,
    Normalized,
    Scene,
    differences,
    facing,
    frame_features,
    normalize_motion,
    relations_of,
)

__all__ = [
    "DIFFERENCE_GAIN",
    "Forecaster",
    "ForecasterConfig",
    "differences",
    "normalize_motion",
]


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
        observed = jnp.asarray(observed).reshape(-1, *frames)
        visible = jnp.asarray(visible).reshape(-1, *frames[:2])
        motion = normalize_motion(observed, visible)
        turn = facing(motion.positions, config.heading)
        scene = self._scene(motion, turn, visible, lead)
        # The first uses the model's key itself, so that a single network draws what it would alone.
        keys = [key, *(fold(key, 1000 + index) for index in range(1, len(self.members)))]
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
        self, motion: Normalized, turn: jax.Array | None, visible: jax.Array, lead: tuple[int, ...]
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
            raise UserError("this forecaster was trained without `spread` in its configuration")
        radii = self.with_radii(observed, visible)[1]
        assert radii is not None
        return self.forecast(observed, visible), radii.mean(0)
