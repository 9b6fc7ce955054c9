"""A mistyped field of a configuration is named, with those there are."""

import pytest
from tiny_config import get_config

from vitpose_jax.data.augmentation import Augmentation
from vitpose_jax.errors import UserError
from vitpose_jax.models.necks import NeckConfig
from vitpose_jax.tasks.pose import build_task
from vitpose_jax.tasks.sections import read_section


def test_unknown_field_is_named_with_its_section():
    with pytest.raises(UserError, match=r"config\.augmentation has no 'rotate'.*rotation"):
        read_section(Augmentation, {"rotate": 3.0}, "config.augmentation")


def test_missing_field_is_named():
    with pytest.raises(UserError, match=r"config\.model\.neck\.width is not set"):
        read_section(NeckConfig, {"kind": "simple"}, "config.model.neck")


def test_build_task_says_which_field_of_the_model_is_wrong():
    config = get_config()
    with config.unlocked():
        config.model.backbone.widht = 3
    with pytest.raises(UserError, match=r"config\.model\.backbone has no 'widht'"):
        build_task(config)
