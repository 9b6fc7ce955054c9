"""Losses on heatmaps: the original's, and one for training from scratch on little data."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from vitpose_jax.keypoints.decoding import find_peaks

SHARPNESS = 10.0
"""Heatmaps are multiplied by this before the spatial softmax, so that a peak of 1 stands out."""

SQUARED_ERROR_SHARE = 0.5
"""Weight of a map's summed squared error beside its cross-entropy."""


Heatmaps = Float[Array, "batch rows columns keypoints"]
Weights = Float[Array, "batch keypoints"]
Scalar = Float32[Array, ""]


def mean_squared_error(heatmaps: Heatmaps, targets: Heatmaps, weights: Weights) -> Scalar:
    """Return the original's JointsMSELoss: the mean of (weight x difference)^2 over all entries."""
    difference = heatmaps.astype(jnp.float32) - targets
    return jnp.mean(jnp.square(difference * weights[:, None, None, :]))


def spatial_cross_entropy(heatmaps: Heatmaps, targets: Heatmaps, weights: Weights) -> Scalar:
    """Return the cross-entropy between spatial softmaxes of the heatmaps and of the targets.

    Both are sharpened by the same factor, so the optimal heatmap is the target up to a constant.
    The squared error, summed over each map, fixes that constant and the flanks of the Gaussian,
    which hardly affect the softmax but are needed to decode fractions of a pixel. These heatmaps
    can therefore be decoded and scored like any others. The mean is over joints of weight 1. The
    targets' entropy is subtracted, so that 0 is perfect.
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


LOSSES: dict[str, Callable[[Heatmaps, Heatmaps, Weights], Scalar]] = {
    "mse": mean_squared_error,
    "softmax": spatial_cross_entropy,
}
"""The choices of `config.loss`."""


def heatmap_accuracy(
    heatmaps: Heatmaps, targets: Heatmaps, weights: Weights, threshold: float = 0.05
) -> Scalar:
    """Return the share of peaks within 5% of the map's size from the target's peak.

    This is the accuracy that the original logs: a mean over the joints that are labelled anywhere
    in the batch. Like the original, it divides x by the height and y by the width.
    """
    _, height, width, _ = heatmaps.shape
    found, wanted = find_peaks(heatmaps)[0], find_peaks(targets)[0]
    distance = jnp.linalg.norm((found - wanted) / jnp.array([height, width]), axis=-1)
    counted = weights > 0
    hits, all_ = ((distance < threshold) & counted).sum(0), counted.sum(0)
    share = hits / jnp.maximum(all_, 1)
    return share.sum() / jnp.maximum((all_ > 0).sum(), 1)
