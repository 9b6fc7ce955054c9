"""Losses on heatmaps: the original's, and one that learns from scratch on little data."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

SHARPNESS = 10.0
"""Heatmaps are multiplied by this before the spatial softmax, so that a peak of 1 stands out."""

SQUARED_ERROR_SHARE = 0.5
"""Weight of a map's summed squared error beside its cross-entropy."""


def mean_squared_error(heatmaps: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """The original's JointsMSELoss with target weights: mean of (weight x difference)^2.

    heatmaps, targets float (B, h, w, K), weights (B, K) -> float32 (). The mean runs over all
    entries, also those of weight 0.
    """
    difference = heatmaps.astype(jnp.float32) - targets
    return jnp.mean(jnp.square(difference * weights[:, None, None, :]))


def spatial_cross_entropy(heatmaps: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Cross-entropy of the spatial softmax of the heatmaps against that of the targets.

    Both are sharpened alike, so the best heatmap is the target up to a constant. The squared error,
    summed over each map, settles the constant and the Gaussian's flanks, which the softmax hardly
    sees but decoding to a fraction of a pixel reads. What comes out is thus decoded and scored like
    any other heatmap. Shapes as in `mean_squared_error`; the mean runs over joints of weight 1. The
    entropy of the targets is taken off, so that 0 is perfect.
    """
    batch, height, width, joints = heatmaps.shape
    heatmaps = heatmaps.astype(jnp.float32).reshape(batch, height * width, joints)
    targets = targets.astype(jnp.float32).reshape(heatmaps.shape)
    log_target = jax.nn.log_softmax(SHARPNESS * targets, axis=1)
    log_predicted = jax.nn.log_softmax(SHARPNESS * heatmaps, axis=1)
    divergence = jnp.sum(jnp.exp(log_target) * (log_target - log_predicted), axis=1)
    squared_error = jnp.sum(jnp.square(heatmaps - targets), axis=1)
    total = jnp.sum(weights * (divergence + SQUARED_ERROR_SHARE * squared_error))
    return total / jnp.maximum(jnp.sum(weights), 1.0)


LOSSES: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "mse": mean_squared_error,
    "softmax": spatial_cross_entropy,
}
