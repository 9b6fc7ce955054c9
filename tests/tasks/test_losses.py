"""The losses where their values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitpose_jax.keypoints.encoding import encode_heatmaps
from vitpose_jax.tasks.losses import mean_squared_error, spatial_cross_entropy


@pytest.fixture
def targets():
    points = jax.random.uniform(jax.random.key(0), (2, 3, 2), minval=10.0, maxval=40.0)
    visible = jnp.array([[2.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    return encode_heatmaps(points, visible, (64, 48), (16, 12), 1.5)


def test_mean_squared_error_leaves_out_weight_zero(targets):
    maps, weights = targets
    noise = jax.random.normal(jax.random.key(1), maps.shape)
    expected = np.square(np.asarray(noise)) * np.asarray(weights)[:, None, None]
    assert float(mean_squared_error(maps + noise, maps, weights)) == pytest.approx(
        expected.mean(), rel=1e-5
    )


def test_cross_entropy_is_least_at_the_targets(targets):
    maps, weights = targets
    assert float(spatial_cross_entropy(maps, maps, weights)) == pytest.approx(0, abs=1e-5)
    gradient = jax.grad(spatial_cross_entropy)(maps, maps, weights)
    assert float(jnp.abs(gradient).max()) < 1e-6
    for other in (maps + 0.3, 0.5 * maps, jnp.roll(maps, 2, axis=1), jnp.zeros_like(maps)):
        assert float(spatial_cross_entropy(other, maps, weights)) > 0.05


def test_cross_entropy_ignores_unlabelled_joints(targets):
    maps, weights = targets
    changed = maps.at[0, :, :, 2].add(jax.random.normal(jax.random.key(2), maps.shape[1:3]))
    assert float(spatial_cross_entropy(changed, maps, weights)) == pytest.approx(0, abs=1e-5)
    assert float(spatial_cross_entropy(maps, maps, jnp.zeros_like(weights))) == 0
