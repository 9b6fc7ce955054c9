"""The whole model: configuration, training form, freezing, sharding."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViTConfig

CONFIG = PoseConfig(
    ViTConfig(width=24, depth=2, num_heads=3, input_size=(64, 48), drop_path_rate=0.2),
    DecoderConfig("classic", num_keypoints=133, in_channels=24, filters=(8, 8)),
)


@pytest.fixture(scope="module")
def crops() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (4, 64, 48, 3))


@pytest.mark.parametrize("kind", ["classic", "simple"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_heatmaps_are_float32_four_times_the_grid(crops: jax.Array, kind: str, dtype: str) -> None:
    config = replace(CONFIG, decoder=replace(CONFIG.decoder, kind=kind))
    heatmaps = PoseModel(config, dtype=dtype, rngs=nnx.Rngs(0))(crops)
    assert heatmaps.shape == (4, *config.heatmap_size, config.num_keypoints) == (4, 16, 12, 133)
    assert heatmaps.dtype == jnp.float32


def test_config_survives_json() -> None:
    hand = Skeleton("hand", ("wrist", "tip"), (), ((0, 1),), (0.05, 0.05), (0,))
    own = replace(CONFIG, decoder=replace(CONFIG.decoder, num_keypoints=2), skeleton=hand)
    for config in (CONFIG, own):
        again = PoseConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config
        assert hash(again) == hash(config)
    before_skeletons = CONFIG.to_dict()
    del before_skeletons["skeleton"]
    assert PoseConfig.from_dict(before_skeletons) == CONFIG
    for broken in ({"backbone": {}}, {"backbone": {"width": 24, "deep": 1}, "decoder": {}}):
        with pytest.raises(UserError, match="configuration"):
            PoseConfig.from_dict(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": DecoderConfig("classic", 17, 768)}, "768 channels"),
        ({"dataset": "lsp"}, "no data set 'lsp'"),
        ({"neck": NeckConfig("residual", 24, taps=(-1,))}, r"taps blocks \(-1,\), .* are 0..1"),
        ({"skeleton": SKELETONS["coco"]}, "gives 133 keypoints but the coco skeleton has 17"),
    ],
)
def test_parts_must_fit(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(CONFIG, **change)
    with pytest.raises(UserError, match="no decoder 'u-net'"):
        DecoderConfig("u-net")


def _statistics(model: PoseModel) -> np.ndarray:
    return np.concatenate([np.ravel(v) for v in jax.tree.leaves(nnx.state(model, nnx.BatchStat))])


def test_training_moves_the_running_statistics_and_inference_does_not(crops: jax.Array) -> None:
    model = PoseModel(CONFIG, rngs=nnx.Rngs(0))
    start = _statistics(model)
    model(crops)
    model(crops, train=True, freeze_backbone=True, freeze_decoder=True)
    np.testing.assert_array_equal(_statistics(model), start)

    @nnx.jit
    def step(model: PoseModel) -> jax.Array:
        return model(crops, train=True, key=jax.random.key(0))

    step(model)
    assert (_statistics(model) != start).all()


def test_frozen_backbone_runs_as_in_inference_and_gets_no_gradient(crops: jax.Array) -> None:
    model = PoseModel(CONFIG, rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda m: (m(crops, train=True, freeze_backbone=True) ** 2).mean())(model)
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(gradient["backbone"]))
    assert all((np.asarray(g) != 0).any() for g in jax.tree.leaves(gradient["decoder"]["final"]))


def test_frozen_decoder_lets_the_gradient_through(crops: jax.Array) -> None:
    model = PoseModel(CONFIG, rngs=nnx.Rngs(0))

    def loss(model: PoseModel) -> jax.Array:
        out = model(crops, train=True, freeze_decoder=True, key=jax.random.key(0))
        return (out**2).mean()

    gradient = nnx.grad(loss)(model)
    assert (np.asarray(gradient["backbone"]["patch_embed"]["kernel"][...]) != 0).any()


def test_frozen_neck_runs_as_in_inference_and_lets_the_gradient_through(crops: jax.Array) -> None:
    neck = NeckConfig("blocks", 24, strides=(2, 1), taps=(0, 1))
    model = PoseModel(replace(CONFIG, neck=neck), rngs=nnx.Rngs(0))
    start = _statistics(model.neck), _statistics(model.decoder)

    def loss(model: PoseModel) -> jax.Array:
        out = model(crops, train=True, freeze_neck=True, key=jax.random.key(0))
        return (out**2).mean()

    gradient = nnx.grad(loss)(model)
    np.testing.assert_array_equal(_statistics(model.neck), start[0])
    assert (_statistics(model.decoder) != start[1]).all()
    assert (np.asarray(gradient["backbone"]["patch_embed"]["kernel"][...]) != 0).any()


def test_expert_of_the_configured_dataset_is_the_default(crops: jax.Array) -> None:
    backbone = replace(CONFIG.backbone, num_experts=6, part_features=6)
    model = PoseModel(replace(CONFIG, backbone=backbone, dataset="mpii"), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(model(crops), model(crops, dataset_index=2))
    with pytest.raises(ValueError, match="dataset_index"):
        PoseModel(replace(CONFIG, backbone=backbone), rngs=nnx.Rngs(0))(crops)


def test_batch_statistics_are_global_when_the_batch_is_sharded() -> None:
    code = """
        import jax, numpy as np
        from flax import nnx
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        from tests.models.test_pose import CONFIG, _statistics
        from vitpose_jax.models.pose import PoseModel

        mesh = Mesh(np.array(jax.devices()), ("data",))
        crops = jax.random.normal(jax.random.key(1), (8, 64, 48, 3)) * np.arange(8)[:, None, None, None]
        step = nnx.jit(lambda m, x: m(x, train=True, freeze_backbone=True))
        one, many = (PoseModel(CONFIG, rngs=nnx.Rngs(0)) for _ in range(2))
        nnx.update(many, jax.device_put(nnx.state(many), NamedSharding(mesh, P())))
        a, b = step(one, crops), step(many, jax.device_put(crops, NamedSharding(mesh, P("data"))))
        assert len(b.sharding.device_set) == 8
        np.testing.assert_allclose(a, b, atol=1e-6)
        np.testing.assert_allclose(_statistics(one), _statistics(many), rtol=1e-5, atol=1e-8)
    """  # noqa: E501
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=True,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    )
