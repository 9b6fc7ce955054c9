"""Training on made-up scenes, from a configuration to a scored forecaster."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs.forecast_somof import get_config
from vitpose_jax.data.motion import somof
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation import forecasting
from vitpose_jax.tasks import run, scenes
from vitpose_jax.tasks.forecasting import open_forecaster
from vitpose_jax.training.settings import read_part


def small_config(shared: Path):
    config = get_config(str(shared / "data" / "cmu-3dpw"))
    config.splits = {"train": "validation", "validation": "validation"}
    config.synthetic, config.paces = 1, (0.5,)
    config.model.update(width=8, num_heads=2, readout_width=16, readout_depth=1)
    config.batch_size, config.steps = 8, 3
    config.eval_every = config.checkpoint_every = 3
    config.schedule.warmup_steps = 1
    return config


@pytest.mark.slow
def test_a_run_is_trained_scored_and_opened(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(scenes, "VALIDATION_SCENES", 20)
    config = small_config(shared)
    run.train(config, tmp_path / "run")
    assert "| VIM, cm | vim_2 | vim_4 |" in capsys.readouterr().out
    rows = json.loads((tmp_path / "run" / "evaluation.json").read_text())["results"]
    assert set(rows) == {*forecasting.SCENE_BASELINES, str(tmp_path / "run")}
    model = open_forecaster(tmp_path / "run")
    scene = somof.read_test(shared / "data" / "somof-3dpw" / "test.npz")[:3, :, :16]
    future, radii = model.with_spread(scene, np.ones(scene.shape[:-1], bool))
    assert future.shape == (3, 2, 14, 13, 3)
    assert radii.shape == (3, 2, 14, 13, 2)


def test_people_side_by_side_and_apart() -> None:
    joints = np.random.default_rng(0).normal(size=(4, 30, 26, 3))
    np.testing.assert_array_equal(scenes.together(scenes.apart(joints)), joints)
    np.testing.assert_array_equal(scenes.apart(joints)[:, 1], joints[:, :, 13:])


def test_the_benchmark_swaps_3dpws_splits(shared: Path) -> None:
    assert get_config("x,benchmark").splits.train == "test"
    settings = read_part(scenes.ScenesSettings, small_config(shared))
    assert settings.splits["train"] == "validation"
    config = small_config(shared)
    config.data = "nowhere"
    with pytest.raises(UserError, match="no 3DPW sequence files"):
        scenes.complete(config)
