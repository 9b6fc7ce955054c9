"""The forecasters: the original against its own outputs, ours against what it promises."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.evaluation.forecasting import zero_velocity
from vitpose_jax.models.forecaster import (
    DIFFERENCE_GAIN,
    Forecaster,
    ForecasterConfig,
    differences,
    normalize_motion,
)
from vitpose_jax.models.pose_predictor import PosePredictor, PredictorConfig
from vitpose_jax.weights.forecaster import load_forecaster

SMALL = {"width": 16, "num_heads": 2, "readout_width": 32, "readout_depth": 1}


def motion(batch: int = 3, frames: int = 10, joints: int = 17, dims: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    observed = rng.normal(500, 100, (batch, 1, joints, dims)) + np.cumsum(
        rng.normal(0, 5, (batch, frames, joints, dims)), 1
    )
    visible = rng.random((batch, frames, joints)) < 0.9
    return observed.astype(np.float32), visible


def trained(config: ForecasterConfig) -> Forecaster:
    """A forecaster whose last layers are not zero."""
    model = Forecaster(config, rngs=nnx.Rngs(0))
    for seed, member in enumerate(model.members, start=1):
        kernel = member.out.kernel[...]
        member.out.kernel[...] = 0.05 * jax.random.normal(jax.random.key(seed), kernel.shape)
    return model


def test_the_forecast_is_the_mean_of_differing_members() -> None:
    model = trained(ForecasterConfig(members=3, readout_width=32, readout_depth=1))
    observed, visible = motion()
    each = model.by_member(observed, visible)
    assert each.shape == (3, 3, 5, 17, 2)
    assert min(np.abs(each[a] - each[b]).max() for a, b in ((0, 1), (1, 2), (0, 2))) > 1
    np.testing.assert_allclose(model(observed, visible), each.mean(0), atol=1e-3)


def test_members_drop_different_things_out() -> None:
    model = trained(ForecasterConfig(members=2, readout_width=32, readout_depth=1, dropout=0.5))
    graph, state = nnx.split(model)
    state["members"][1] = state["members"][0]
    alike = nnx.merge(graph, state)
    observed, visible = motion()
    same = alike.by_member(observed, visible)
    np.testing.assert_allclose(same[0], same[1], atol=1e-3)
    dropped = alike.by_member(observed, visible, key=jax.random.key(0))
    assert np.abs(dropped[0] - dropped[1]).max() > 1


def test_original_predictor_golden(golden: Path) -> None:
    model = load_forecaster(golden / "pose_predictor.pth")
    reference = np.load(golden / "pose_predictor.npz")
    np.testing.assert_allclose(model(reference["x"]), reference["y"], atol=1e-5)
    x = model.input_proj(reference["x"])
    for layer, expected in zip(model.layers, reference["layers"], strict=True):
        x = layer(x, None)
        np.testing.assert_allclose(x, expected.swapaxes(0, 1), atol=1e-5)


def test_original_is_blind_to_order_and_positions_mend_it(golden: Path) -> None:
    x = np.load(golden / "pose_predictor.npz")["x"]
    order = np.random.default_rng(0).permutation(10)
    config = PredictorConfig(depth=1, mlp_width=32)
    blind = PosePredictor(config, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(blind(x[:, order]), blind(x)[:, order], atol=1e-5)
    seeing = PosePredictor(PredictorConfig(depth=1, mlp_width=32, num_frames=10), rngs=nnx.Rngs(0))
    assert np.abs(seeing(x[:, order]) - seeing(x)[:, order]).max() > 1e-3


def test_original_forecasts_its_last_outputs(golden: Path) -> None:
    model = load_forecaster(golden / "pose_predictor.pth")
    reference = np.load(golden / "pose_predictor.npz")
    observed = 1280 * reference["x"].reshape(4, 10, 17, 2)
    future = model.forecast(observed, np.ones((4, 10, 17), bool))
    expected = 1280 * reference["y"][:, -5:].reshape(4, 5, 17, 2)
    np.testing.assert_allclose(future, expected, atol=0.02)


@pytest.mark.parametrize(
    ("joints", "dims", "observed", "future"), [(17, 2, 10, 5), (24, 3, 4, 30), (5, 2, 1, 1)]
)
def test_starts_as_zero_velocity(joints: int, dims: int, observed: int, future: int) -> None:
    config = ForecasterConfig(
        joints, dims, observed, future, flip_pairs=((0, 1),), differences=4, **SMALL
    )
    model = Forecaster(config, rngs=nnx.Rngs(0))
    positions, visible = motion(frames=observed, joints=joints, dims=dims)
    predicted = np.asarray(model(positions, visible))
    ever = visible.any(1)
    expected = zero_velocity(positions, visible, future)
    np.testing.assert_array_equal(
        np.moveaxis(predicted, 1, 2)[ever], np.moveaxis(expected, 1, 2)[ever]
    )
    np.testing.assert_allclose(predicted, expected, rtol=1e-4)  # never seen: the others' mean
    np.testing.assert_allclose(model.forecast(positions, visible), expected, rtol=1e-4)


def test_order_matters() -> None:
    model = trained(ForecasterConfig(**SMALL))
    observed, visible = motion()
    backwards = model(observed[:, ::-1], visible[:, ::-1]) - observed[:, :1]
    assert np.abs(backwards - (model(observed, visible) - observed[:, -1:])).max() > 1


def test_place_and_size_do_not_matter() -> None:
    model = trained(ForecasterConfig(**SMALL))
    observed, visible = motion()
    there = model(3 * observed + 700, visible)
    np.testing.assert_allclose(there, 3 * model(observed, visible) + 700, rtol=2e-4)


def test_missing_joints_values_do_not_matter() -> None:
    model = trained(ForecasterConfig(**SMALL))
    observed, visible = motion()
    visible[0, :, 4] = False
    visible[1] = False
    other = np.where(visible[..., None], observed, 1e4)
    np.testing.assert_array_equal(model(other, visible), model(observed, visible))
    assert np.isfinite(model(observed, visible)).all()


def test_mirrored_motion_has_the_mirrored_future() -> None:
    pairs = ((1, 2), (3, 4))
    model = trained(ForecasterConfig(num_joints=5, flip_pairs=pairs, **SMALL))
    observed, visible = motion(joints=5)
    index, mirror = [0, 2, 1, 4, 3], np.array([-1, 1])
    future = model.forecast(observed, visible)
    mirrored = model.forecast(observed[:, :, index] * mirror, visible[:, :, index])
    np.testing.assert_allclose(mirrored[:, :, index] * mirror, future, rtol=1e-4, atol=1e-2)


def test_dropout_only_with_a_key() -> None:
    model = trained(ForecasterConfig(**SMALL, dropout=0.5))
    observed, visible = motion()
    still = model(observed, visible)
    np.testing.assert_array_equal(still, model(observed, visible))
    assert np.abs(model(observed, visible, key=jax.random.key(0)) - still).max() > 0.01


def test_normalization_fills_from_what_is_known() -> None:
    observed = jnp.arange(12.0).reshape(1, 3, 2, 2)
    visible = jnp.array([[[True, False], [False, True], [True, False]]])
    result = normalize_motion(observed, visible)
    np.testing.assert_array_equal(result.last[0], [observed[0, 2, 0], observed[0, 1, 1]])
    filled = result.positions[0] * result.scale[0] + result.last[0].mean(0)
    np.testing.assert_allclose(filled[:, 0], observed[0, [0, 0, 2], 0], rtol=1e-5)
    np.testing.assert_allclose(filled[:, 1], observed[0, [1, 1, 1], 1], rtol=1e-5)


def test_differences_of_a_parabola() -> None:
    time = jnp.arange(6.0)
    positions = jnp.stack([3 * time**2, -time], -1)[None, :, None]
    visible = np.ones((1, 6, 1), bool)
    velocity, acceleration, jerk = differences(positions, visible, 3)
    gain = DIFFERENCE_GAIN
    np.testing.assert_allclose(velocity[0, :, 0, 0] / gain, [0, 3, 9, 15, 21, 27], rtol=1e-6)
    np.testing.assert_allclose(velocity[0, :, 0, 1] / gain, [0, -1, -1, -1, -1, -1], rtol=1e-6)
    np.testing.assert_allclose(acceleration[0, :, 0, 0] / gain / 2, [0, 0, 6, 6, 6, 6], rtol=1e-6)
    np.testing.assert_array_equal(jerk, 0)
    visible[0, 3] = False  # nothing is known of steps to and from where it was not seen
    velocity, acceleration, _ = differences(positions, visible, 3)
    np.testing.assert_allclose(velocity[0, :, 0, 0] / gain, [0, 3, 9, 0, 0, 27], rtol=1e-6)
    np.testing.assert_allclose(acceleration[0, :, 0, 0] / gain / 2, [0, 0, 6, 0, 0, 0], rtol=1e-6)
