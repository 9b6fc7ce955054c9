"""Forecasting through the training loop: a short run on synthetic motion, then comparisons."""

import json
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
import tiny_config
from flax import nnx

from configs.forecast_3dpw import get_config
from vitpose_jax.errors import UserError
from vitpose_jax.tasks import forecasting as forecast_task
from vitpose_jax.tasks import run
from vitpose_jax.training.settings import read_part
from vitpose_jax.weights.forecaster import build_forecaster, save_forecaster


def small(data: str = "synthetic", **changes) -> ml_collections.ConfigDict:
    config = get_config(data)
    config.model.update(width=16, num_heads=2, readout_width=32, readout_depth=1)
    config.update(steps=30, batch_size=16, stride=50, log_every=10, eval_every=15)
    config.update(checkpoint_every=15, **changes)
    config.schedule.warmup_steps = 2
    config.eval.stride = 40
    return config


def settings(config: ml_collections.ConfigDict) -> forecast_task.ForecastSettings:
    return read_part(forecast_task.ForecastSettings, config)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    run.train(small(), folder)
    return folder


def test_training_ends_with_a_comparison(trained: Path) -> None:
    written = json.loads((trained / "evaluation.json").read_text())
    assert written["split"] == "test"
    assert {"zero_velocity", "constant_velocity", "damped_fit", str(trained)} == set(
        written["results"]
    )
    errors = {name: np.array(r["error_px"], float) for name, r in written["results"].items()}
    assert errors[str(trained)].shape == (5, 17)
    assert np.isfinite(errors[str(trained)]).all()


def test_compares_any_number_of_checkpoints(
    trained: Path, tmp_path: Path, golden: Path, capsys: pytest.CaptureFixture
) -> None:
    model = forecast_task.open_forecaster(trained)
    save_forecaster(model, tmp_path / "weights")
    config = small()
    config.compare = (str(trained), str(tmp_path / "weights"), str(golden / "pose_predictor.pth"))
    run.evaluate(config, tmp_path / "report")
    results = json.loads((tmp_path / "report" / "evaluation.json").read_text())["results"]
    assert len(results) == 6
    assert results[str(trained)] == results[str(tmp_path / "weights")]
    printed = capsys.readouterr().out
    assert printed.count("| damped_fit |") == 5
    assert "pose_predictor.pth" in printed


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"num_joints": 24}, "num_joints 24, but the data has 17"),
        ({"future": 30}, "future 30, but the data has 5"),
        ({"observed": 7}, "observed 7, but the data has 10"),
    ],
)
def test_checkpoints_of_other_problems(tmp_path: Path, model: dict, said: str) -> None:
    tiny = {"kind": "forecaster", "width": 8, "num_heads": 2, "readout_width": 8}
    save_forecaster(build_forecaster(tiny | model), tmp_path / "other")
    config = small()
    config.compare = (str(tmp_path / "other"),)
    with pytest.raises(UserError, match=said):
        run.evaluate(config, tmp_path / "report")


def test_other_frame_rates_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny = {"kind": "forecaster", "width": 8, "num_heads": 2, "readout_width": 8, "fps": 25.0}
    save_forecaster(build_forecaster(tiny), tmp_path / "slow")
    config = small()
    config.compare = (str(tmp_path / "slow"),)
    with caplog.at_level("WARNING"):
        run.evaluate(config, tmp_path / "report")
    assert "trained at 25 frames a second, but the data has 30" in caplog.text
    caplog.clear()
    config.fps = 25.0
    with caplog.at_level("WARNING"):
        run.evaluate(config, tmp_path / "report")
    assert not caplog.text


TINY = {"kind": "forecaster", "width": 16, "num_heads": 2, "readout_width": 32, "readout_depth": 1}


def test_starts_from_a_forecaster_like_its_own(tmp_path: Path) -> None:
    config = small(init_from=str(tmp_path / "weights"))
    pairs = forecast_task.model_config(settings(config))["flip_pairs"]
    given = build_forecaster(TINY | {"flip_pairs": pairs, "fps": 25.0, "dropout": 0.5}, seed=3)
    save_forecaster(given, tmp_path / "weights")
    model = forecast_task.initial_model(settings(config))
    assert (model.config.fps, model.config.dropout) == (30.0, 0.05)
    arrays = [jax.tree.leaves(nnx.state(each, nnx.Param)) for each in (model, given)]
    for ours, theirs in zip(*arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (TINY | {"observed": 7}, r"another forecaster: config\.model\.flip_pairs .*observed was 7"),
        (TINY | {"num_joints": 24}, "num_joints was 24, now 17"),
        ({"kind": "predictor"}, "holds the original's predictor"),
    ],
)
def test_does_not_start_from_another_forecaster(tmp_path: Path, model: dict, said: str) -> None:
    save_forecaster(build_forecaster(model), tmp_path / "other")
    with pytest.raises(UserError, match=said):
        forecast_task.initial_model(settings(small(init_from=str(tmp_path / "other"))))


def test_runs_that_are_no_weights(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a training run, not weights"):
        forecast_task.initial_model(settings(small(init_from=str(trained))))
    config = tiny_config.get_config()
    with pytest.raises(UserError, match=r"another model: .*task was 'forecast', now 'pose'"):
        run.evaluate(config, trained)
    config.update(steps=1, batch_size=2)
    run.train(config, tmp_path / "pose")
    with pytest.raises(UserError, match="is the run of a pose model"):
        forecast_task.open_forecaster(tmp_path / "pose")


def test_what_training_would_end_on_is_refused_before_it(tmp_path: Path) -> None:
    config = small()
    config.eval.split = "tset"
    with pytest.raises(UserError, match=r"config\.eval\.split is 'tset'"):
        forecast_task.build_problem(config)
    with pytest.raises(UserError, match=r"'joints3d'.*synthetic motion requires"):
        forecast_task.build_problem(small("synthetic,joints3d"))


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no input 'faces'"):
        forecast_task.build_problem(small("somewhere,faces"))
    with pytest.raises(UserError, match="no 3DPW sequence files"):
        forecast_task.build_problem(small(str(tmp_path)))


@pytest.mark.parametrize(("kind", "metric"), [("projected", "error_px"), ("joints3d", "error_mm")])
def test_other_inputs(shared: Path, kind: str, metric: str) -> None:
    config = small(f"{shared / 'data' / 'cmu-3dpw'},{kind}", future=7)
    task = forecast_task.build_problem(config)
    batch = next(iter(task.train_batches))
    assert batch["future"].shape == (16, 7, 24, 3 if kind == "joints3d" else 2)
    assert task.evaluate(task.model)[metric] > 0


def test_every_member_is_trained_on_its_own_error() -> None:
    tiny = {"kind": "forecaster", "width": 8, "num_heads": 2, "readout_width": 8}
    model = build_forecaster(tiny | {"members": 2})
    for seed, member in enumerate(model.members):
        kernel = member.out.kernel[...]
        member.out.kernel[...] = jax.random.normal(jax.random.key(seed), kernel.shape)
    rng = np.random.default_rng(0)
    observed, future = (rng.normal(500, 50, (4, n, 17, 2)).astype(np.float32) for n in (10, 5))
    batch = {"observed": observed, "future": future}
    batch |= {f"{name}_visible": np.ones(x.shape[:3], bool) for name, x in batch.items()}
    loss = forecast_task.forecast_loss(model, batch, None)[0]
    alone = []
    for member in list(model.members):
        model.members = nnx.List([member])
        alone.append(forecast_task.forecast_loss(model, batch, None)[0])
    np.testing.assert_allclose(loss, np.mean(alone), rtol=1e-5)


def test_other_paces_are_further_training_windows(shared: Path) -> None:
    config = get_config(str(shared / "data" / "cmu-3dpw"))
    config.update(stride=4)
    plain = forecast_task.open_windows(settings(config), "validation", stride=4, complete=False)
    paces = forecast_task.open_windows(
        settings(config), "validation", stride=4, complete=False, paces=(0.8, 1.25)
    )
    assert paces.starts[: len(plain)].tolist() == plain.starts.tolist()
    assert 2.9 < len(paces) / len(plain) < 3.2  # 1 + 1 / 0.8 + 1 / 1.25 = 3.05

    config.augmentation.paces = (0.5, 1.5)
    twice = forecast_task.build_problem(config).train_size
    config.augmentation.paces = ()
    assert 3.4 < twice / forecast_task.build_problem(config).train_size < 3.8  # 1 + 2 + 2 / 3
