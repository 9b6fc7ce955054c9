"""The study's rows: every one can be built, and a row that mends a fault turns one switch."""

import pytest

from experiments.fpn_study.rows import ROWS, configuration, scale_taps
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.tasks.pose_settings import PoseSettings, pose_config
from vitpose_jax.training.settings import read_part
from vitpose_jax.training.workdir import differences, plain

SMALL = PoseConfig(
    ViTConfig(64, 6, 2, input_size=(128, 96)), DecoderConfig("classic", 17, 64, (32, 32))
)


def _config(name: str):
    return configuration(ROWS[name], "synthetic", "weights", SMALL, 0, "small")


@pytest.mark.parametrize("name", ROWS)
def test_row_fits_the_backbone(name: str) -> None:
    dataset = open_pose_dataset("synthetic", "val", input_size=(128, 96))
    shape = pose_config(read_part(PoseSettings, _config(name)), dataset.skeleton)
    assert shape.backbone.width == 64
    assert shape.heatmap_size == (32, 24)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.reference])
def test_row_is_one_switch_away_from_its_reference(name: str) -> None:
    changed = differences(plain(_config(ROWS[name].reference)), plain(_config(name)))
    assert len(changed) == 1, changed


def test_blocks_of_another_depth() -> None:
    assert scale_taps((3, 7, 11), 12) == (3, 7, 11)
    assert scale_taps((3, 7, 11), 6) == (1, 3, 5)
    assert scale_taps((9, 10, 11), 6) == (3, 4, 5)
    assert scale_taps((3, 7), 24) == (7, 15)
