"""The study's rows: every one can be built, and a row that mends a fault turns one switch."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.fpn_study.features import FeatureStore, ReplayedBatches
from experiments.fpn_study.rows import ROWS, configuration, scale_taps
from experiments.fpn_study.wide_decoder import widen_into
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
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
    assert shape.heatmap_size == ((64, 48) if name == "detail_to_half" else (32, 24))


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.reference])
def test_row_is_one_switch_away_from_its_reference(name: str) -> None:
    changed = differences(plain(_config(ROWS[name].reference)), plain(_config(name)))
    assert len(changed) == 1, changed


def test_blocks_of_another_depth() -> None:
    assert scale_taps((3, 7, 11), 12) == (3, 7, 11)
    assert scale_taps((3, 7, 11), 6) == (1, 3, 5)
    assert scale_taps((9, 10, 11), 6) == (3, 4, 5)
    assert scale_taps((3, 7), 24) == (7, 15)


def test_a_wider_decoder_starts_with_the_same_heatmaps() -> None:
    narrow = PoseModel(SMALL, rngs=nnx.Rngs(0))
    for kernel in (
        *(deconv.kernel for deconv in narrow.decoder.deconvs),
        narrow.decoder.final.kernel,
    ):
        kernel[...] *= 50
    wide = PoseModel(
        replace(SMALL, decoder=replace(SMALL.decoder, filters=(48, 40))), rngs=nnx.Rngs(1)
    )
    widen_into(wide, narrow)
    features = jax.random.normal(jax.random.key(0), (1, 8, 6, 64))
    run = nnx.jit(lambda decoder, features: decoder(features))
    expected = run(narrow.decoder, features)
    assert jnp.abs(expected).max() > 0.1
    np.testing.assert_allclose(run(wide.decoder, features), expected, atol=1e-5)


def test_replayed_batches_go_on_where_they_stopped(tmp_path: Path) -> None:
    batch = {"image_id": np.arange(12)}
    store = FeatureStore.make(tmp_path / "store", 12, iter([batch]))
    epochs = []
    for seed in (None, 0, 1):
        batches = ReplayedBatches(store, ("image_id",), 4, seed)
        seen = [next(batches)["image_id"] for _ in range(6)]
        assert sorted(np.concatenate(seen[:3])) == sorted(np.concatenate(seen[3:])) == [*range(12)]
        again = ReplayedBatches(store, ("image_id",), 4, seed)
        again.set_state({"next": 4})
        assert next(again)["image_id"].tolist() == seen[4].tolist()
        epochs.append([tuple(np.concatenate(seen[:3])), tuple(np.concatenate(seen[3:]))])
    assert epochs[0][0] == epochs[0][1] == tuple(range(12))
    assert len({*epochs[1], *epochs[2]}) == 4
