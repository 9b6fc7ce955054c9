"""Forecasting people together in 3D: what must hold whatever the weights are."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.evaluation.forecasting import zero_velocity
from vitpose_jax.models.forecaster import Forecaster, ForecasterConfig
from vitpose_jax.weights.forecaster import load_forecaster, save_forecaster

SMALL = {"width": 16, "num_heads": 2, "readout_width": 32, "readout_depth": 1}
CONFIG = ForecasterConfig(
    num_joints=5,
    dims=3,
    observed=6,
    future=4,
    flip_pairs=((0, 1), (3, 4)),
    people=True,
    mixture=True,
    path=True,
    heading=(0, 1),
    spread=True,
    **SMALL,
)


def scenes(people: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.4, (2, people, 1, 5, 3)) + rng.normal(0, 2, (2, people, 1, 1, 3))
    steps = np.cumsum(rng.normal(0, 0.05, (2, people, 6, 5, 3)), 2)
    return (pose + steps).astype(np.float32), rng.random((2, people, 6, 5)) < 0.95


@pytest.fixture(scope="module")
def model() -> Forecaster:
    """All weights random, so that every part has an effect."""
    model = Forecaster(CONFIG, rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    noisy = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    nnx.update(model, jax.tree.unflatten(tree, noisy))
    return model


def test_people_in_another_order_have_their_own_forecasts(model: Forecaster) -> None:
    observed, visible = scenes()
    future, radii = model.with_spread(observed, visible)
    order = [2, 0, 1]
    swapped, swapped_radii = model.with_spread(observed[:, order], visible[:, order])
    np.testing.assert_allclose(swapped, future[:, order], atol=1e-4)
    np.testing.assert_allclose(swapped_radii, radii[:, order], rtol=1e-3)


def test_people_see_one_another(model: Forecaster) -> None:
    observed, visible = scenes(people=2)
    other = observed.copy()
    other[:, 1] += np.linspace(0, 2, 6)[:, None, None]
    change = np.abs(model(other, visible)[:, 0] - model(observed, visible)[:, 0])
    assert change.max() > 1e-3


def test_people_who_are_not_there_change_nothing(model: Forecaster) -> None:
    observed, visible = scenes(people=2)
    alone = model(observed[:, :1], visible[:, :1])
    nobody = visible & np.array([True, False])[:, None, None]
    np.testing.assert_allclose(model(observed, nobody)[:, :1], alone, atol=1e-4)


def test_any_number_of_people(model: Forecaster) -> None:
    for people in (1, 5):
        observed, visible = scenes(people)
        assert model.forecast(observed, visible).shape == (2, people, 4, 5, 3)


def test_a_turned_moved_larger_scene_has_the_same_future(model: Forecaster) -> None:
    observed, visible = scenes()
    visible[:] = True
    cos, sin = np.cos(2.1), np.sin(2.1)
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], np.float32)
    there = model(2 * observed @ turn.T + np.float32([3, 1, -2]), visible)
    expected = 2 * np.asarray(model(observed, visible)) @ turn.T + np.float32([3, 1, -2])
    np.testing.assert_allclose(there, expected, atol=2e-3)


def test_mirrored_scene_has_the_mirrored_future(model: Forecaster) -> None:
    observed, visible = scenes()
    index, mirror = [1, 0, 2, 4, 3], np.float32([-1, 1, 1])
    future = model.forecast(observed, visible)
    mirrored = model.forecast(observed[..., index, :] * mirror, visible[..., index])
    np.testing.assert_allclose(mirrored[..., index, :] * mirror, future, atol=1e-3)


def test_starts_by_standing_still_or_moving_on() -> None:
    model = Forecaster(CONFIG, rngs=nnx.Rngs(0))
    observed, visible = scenes()
    visible[:] = True
    still = np.repeat(observed[:, :, :1], 6, 2)
    flat = still.reshape(6, 6, 5, 3), visible.reshape(6, 6, 5)
    expected = zero_velocity(*flat, 4).reshape(2, 3, 4, 5, 3)
    np.testing.assert_allclose(model(still, visible), expected, atol=1e-5)
    steady = still + 0.1 * np.arange(6, dtype=np.float32)[:, None, None]
    travel = 0.1 * np.cumsum(0.9 ** np.arange(4))
    moved = steady[:, :, -1:] + travel[:, None, None]
    np.testing.assert_allclose(model(steady, visible), moved, atol=1e-4)


def test_radii_grow_outwards(model: Forecaster) -> None:
    observed, visible = scenes()
    radii = np.asarray(model.with_spread(observed, visible)[1])
    assert radii.shape == (2, 3, 4, 5, 2)
    assert (radii[..., 0] > 0).all()
    assert (radii[..., 1] > radii[..., 0]).all()


def test_refusals(model: Forecaster) -> None:
    observed, visible = scenes()
    with pytest.raises(UserError, match="takes \\(batch, people, frames, joints, dimensions\\)"):
        model(observed[:, 0], visible[:, 0])
    with pytest.raises(UserError, match="heading is \\(0, 1\\)"):
        ForecasterConfig(heading=(0, 1))
    alone = Forecaster(ForecasterConfig(**SMALL), rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="without `spread`"):
        alone.with_spread(np.zeros((1, 10, 17, 2), np.float32), np.ones((1, 10, 17), bool))


def test_weights_come_back(model: Forecaster, tmp_path: Path) -> None:
    save_forecaster(model, tmp_path / "weights")
    again = load_forecaster(tmp_path / "weights")
    assert again.config == CONFIG
    for ours, theirs in zip(
        *(jax.tree.leaves(nnx.state(m, nnx.Param)) for m in (model, again)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
