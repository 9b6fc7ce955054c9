"""A field that is missing or mistyped in a configuration is named."""

from pathlib import Path

import ml_collections
import pytest
from tiny_config import get_config

from configs.forecast_3dpw import get_config as get_forecast_config
from vitpose_jax.data.augmentation import Augmentation
from vitpose_jax.errors import UserError
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.tasks import run
from vitpose_jax.tasks.pose import build_problem
from vitpose_jax.training.settings import RunSettings, read_part, read_section


def test_unknown_field_is_named_with_its_section():
    with pytest.raises(UserError, match=r"config\.augmentation has no 'rotate'.*rotation"):
        read_section(Augmentation, {"rotate": 3.0}, "config.augmentation")


def test_missing_field_is_named():
    with pytest.raises(UserError, match=r"config\.model\.neck\.width is not set"):
        read_section(NeckConfig, {"kind": "simple"}, "config.model.neck")


def test_build_problem_says_which_field_of_the_model_is_wrong():
    config = get_config()
    with config.unlocked():
        config.model.backbone.widht = 3
    with pytest.raises(UserError, match=r"config\.model\.backbone has no 'widht'"):
        build_problem(config)


def without(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
    *sections, last = name.split(".")
    section = config
    for each in sections:
        section = section[each]
    del section[last]
    return config


@pytest.mark.parametrize(
    "name", ["seed", "optimizer", "optimizer.kind", "schedule.warmup_ratio", "log_every"]
)
def test_the_engine_names_what_a_configuration_lacks(name: str):
    with pytest.raises(UserError, match=rf"^config\.{name} is not set$"):
        read_part(RunSettings, without(get_config(), name))


@pytest.mark.parametrize("name", ["data", "model.decoder", "model.backbone.width", "eval.boxes"])
def test_the_pose_task_names_what_a_configuration_lacks(name: str, tmp_path: Path):
    with pytest.raises(UserError, match=rf"^config\.{name} is not set$"):
        run.train(without(get_config(), name), tmp_path)
    config = without(get_config(), name)
    config.init_from = "weights"
    with pytest.raises(UserError, match=rf"^config\.{name} is not set$"):
        run.evaluate(config, tmp_path)


@pytest.mark.parametrize("name", ["fps", "eval.split"])
def test_the_forecasting_task_names_what_a_configuration_lacks(name: str, tmp_path: Path):
    config = without(get_forecast_config("synthetic"), name)
    for do in (run.train, run.evaluate):
        with pytest.raises(UserError, match=rf"^config\.{name} is not set$"):
            do(config, tmp_path)


def test_a_configuration_names_its_task(tmp_path: Path):
    with pytest.raises(UserError, match=r"task is None; choose one of pose, forecast, scenes$"):
        run.train(without(get_config(), "task"), tmp_path)


def test_a_section_is_a_section():
    config = get_config()
    with config.ignore_type():
        config.optimizer = "muon"
    with pytest.raises(UserError, match=r"^config\.optimizer is 'muon'; it must be a section$"):
        read_part(RunSettings, config)
