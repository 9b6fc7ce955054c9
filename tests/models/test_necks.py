"""Necks against the original's outputs, and what each promises."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import KINDS, NeckConfig
from vitpose_jax.models.necks import NECKS, Neck
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.resampling import average_pool, resize_bilinear, resize_nearest
from vitpose_jax.models.vit import ViTConfig

torch = pytest.importorskip("torch")

AS_CODED = {"cumulative": True, "downsample": "subsample", "top_down": "coarsest"}
SMALL_VIT = ViTConfig(width=24, depth=2, num_heads=3, input_size=(64, 48))


def build_neck(config: NeckConfig, rngs: nnx.Rngs) -> Neck:
    return NECKS[config.kind](config, rngs=rngs)


def _tensors(file: Path) -> dict[str, np.ndarray]:
    state = torch.load(file, weights_only=True)["state_dict"]
    return {key: value.numpy() for key, value in state.items()}


def _set(layer: nnx.Module, weight: np.ndarray, bias: np.ndarray) -> None:
    is_linear = layer.kernel.ndim == 2
    layer.kernel[...] = weight[:, :, 0, 0].T if is_linear else weight.transpose(2, 3, 1, 0)
    layer.bias[...] = bias


def _relative_error(ours: jax.Array, reference_nchw: np.ndarray) -> float:
    ours = np.asarray(ours).transpose(0, 3, 1, 2)[: len(reference_nchw)]
    return float(np.abs(ours - reference_nchw).max() / np.abs(reference_nchw).max())


@pytest.mark.parametrize("strides", [(1, 2, 4, 8), (1, 3, 9, 27), (1, 2, 8, 32)])
def test_strided_pyramid_as_coded_gives_the_originals_maps(golden: Path, strides):
    reference, tensors = np.load(golden / "fpn_neck.npz"), _tensors(golden / "fpn_neck_model.pth")
    neck = build_neck(NeckConfig("strided", 96, strides, **AS_CODED), rngs=nnx.Rngs(0))
    for name in ("bottom_convs", "lateral_convs", "output_convs"):
        for i, layer in enumerate(getattr(neck, name)):
            _set(layer, tensors[f"neck.{name}.{i}.weight"], tensors[f"neck.{name}.{i}.bias"])
    x = jnp.asarray(reference["neck_input"].transpose(0, 2, 3, 1))
    maps = nnx.jit(lambda neck, x: neck.maps(x))(neck, x)
    label = "_".join(map(str, strides))
    for i, level in enumerate(maps):
        assert _relative_error(level, reference[f"neck_s{label}_map{i}"]) < 1e-5


@pytest.mark.parametrize("strides", [(9, 3, 1), (4, 2, 1)])
def test_block_fusion_gives_the_originals_fused_map(golden: Path, strides):
    reference = np.load(golden / "fpn_intermediate.npz")
    tensors = _tensors(golden / "fpn_intermediate.pth")
    config = NeckConfig("blocks", 96, strides, taps=(3, 7, 11), tap_norm=False)
    neck = build_neck(config, rngs=nnx.Rngs(0))
    for i in range(3):
        layers = {
            f"proj_layers.{i}": neck.proj_layers[i],
            f"fpn_stride_convs.{i}": neck.stride_convs[i],
            f"smooth_convs.{i}.0": neck.smooth_convs[i],
        }
        for key, layer in layers.items():
            key = f"keypoint_head.{key}"
            _set(layer, tensors[f"{key}.weight"], tensors[f"{key}.bias"])
        norm = neck.smooth_norms[i]
        for ours, theirs in (
            (norm.scale, "weight"),
            (norm.bias, "bias"),
            (norm.mean, "running_mean"),
            (norm.var, "running_var"),
        ):
            ours[...] = tensors[f"keypoint_head.smooth_convs.{i}.1.{theirs}"]
    taps = [jnp.asarray(x[None].transpose(0, 2, 3, 1)) for x in reference["features_o3_7_11"]]
    label = "default" if strides == (9, 3, 1) else "4_2_1"
    fused = nnx.jit(lambda neck, taps: neck(taps[-1], taps))(neck, taps)
    assert _relative_error(fused, reference[f"fused_o3_7_11_s{label}"]) < 1e-5


def _model(neck: NeckConfig | None, filters=(16, 16), seed: int = 0) -> PoseModel:
    channels = SMALL_VIT.width if neck is None else neck.out_channels
    config = PoseConfig(SMALL_VIT, DecoderConfig("classic", 17, channels, filters), neck)
    return PoseModel(config, rngs=nnx.Rngs(seed))


def _crops(batch: int = 2) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (batch, *SMALL_VIT.input_size, 3))


def test_residual_pyramid_starts_as_exactly_the_baseline():
    baseline = _model(None)
    residual = _model(NeckConfig("residual", 24, (1, 2, 4), taps=(0, 1), channels=8), seed=5)
    for deconv in baseline.decoder.deconvs:  # heatmaps of the usual size, not those of 0.001
        deconv.kernel[...] *= 100
    baseline.decoder.final.kernel[...] *= 1000
    for part in ("backbone", "decoder"):
        nnx.update(getattr(residual, part), nnx.state(getattr(baseline, part)))
    run = nnx.jit(lambda model, x: model(x))
    ours, theirs = np.asarray(run(residual, _crops())), np.asarray(run(baseline, _crops()))
    assert theirs.std() > 0.1
    np.testing.assert_array_equal(ours, theirs)


NECKS_UNDER_TEST = [
    NeckConfig("strided", 24, (1, 2, 4)),
    NeckConfig("strided", 24, (1, 2, 4), fuse="first"),
    NeckConfig("strided", 24, (1, 2, 4), init_std=0.001, **AS_CODED),
    NeckConfig("blocks", 24, (2, 1), taps=(0, 1)),
    NeckConfig("simple", 24, channels=8),
    NeckConfig("residual", 24, (1, 2), taps=(1,), channels=8),
    NeckConfig("detail", 24, taps=(0,), channels=8),
]


@pytest.mark.parametrize("neck", NECKS_UNDER_TEST, ids=lambda n: f"{n.kind}-{n.fuse}")
def test_heatmap_size_and_configuration_round_trip(neck: NeckConfig):
    filters = () if neck.kind == "simple" else (16, 16)
    model = nnx.eval_shape(lambda: _model(neck, filters))
    shape = nnx.eval_shape(lambda: _model(neck, filters)(_crops())).shape
    assert shape == (2, 16, 12, 17) == (2, *model.config.heatmap_size, 17)
    assert PoseConfig.from_dict(model.config.to_dict()) == model.config


@pytest.mark.parametrize("neck", NECKS_UNDER_TEST[2:], ids=lambda n: f"{n.kind}-{n.fuse}")
def test_frozen_backbone_gets_no_gradient_and_no_stochastic_depth(neck: NeckConfig):
    config = PoseConfig(
        dataclasses.replace(SMALL_VIT, drop_path_rate=0.9),
        DecoderConfig("classic", 17, neck.out_channels, () if neck.kind == "simple" else (16, 16)),
        neck,
    )
    build = nnx.jit(lambda: PoseModel(config, rngs=nnx.Rngs(0)))
    graph, parameters, rest = nnx.split(build(), nnx.Param, ...)

    @jax.jit
    @jax.value_and_grad
    def loss(parameters, key):
        model = nnx.merge(graph, parameters, rest, copy=True)
        return jnp.square(model(_crops(), train=True, freeze_backbone=True, key=key) - 1).sum()

    value, gradients = loss(parameters, jax.random.key(0))
    assert value == loss(parameters, jax.random.key(7))[0]  # no key matters
    gradients = nnx.to_pure_dict(gradients)
    for leaf in jax.tree.leaves(gradients["backbone"]):
        assert not np.asarray(leaf).any()
    assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients["neck"]))


def test_each_switch_of_the_strided_pyramid_changes_its_maps():
    x = jax.random.normal(jax.random.key(0), (1, 16, 12, 6))

    def maps(**switches):
        neck = build_neck(NeckConfig("strided", 6, (1, 2, 4, 8), **switches), rngs=nnx.Rngs(0))
        return nnx.jit(lambda neck, x: neck.maps(x))(neck, x)

    sizes = [m.shape[1:3] for m in maps()]
    assert sizes == [(16, 12), (8, 6), (4, 3), (2, 2)]
    assert [m.shape[1:3] for m in maps(cumulative=True)] == [(16, 12), (8, 6), (2, 2), (1, 1)]
    for switch in ({"downsample": "subsample"}, {"top_down": "coarsest"}):
        changed = [not np.allclose(a, b) for a, b in zip(maps(), maps(**switch), strict=True)]
        assert changed[:2] == [True, True]


def test_resizing_follows_pytorch():
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 5)).astype(np.float32)
    nchw = torch.from_numpy(x.transpose(0, 3, 1, 2))
    resize = torch.nn.functional.interpolate
    nearest = resize(nchw, (7, 5), mode="nearest").numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(resize_nearest(jnp.asarray(x), (7, 5)), nearest)
    bilinear = resize(nchw, (7, 5), mode="bilinear", align_corners=False).numpy()
    np.testing.assert_allclose(
        resize_bilinear(jnp.asarray(x), (7, 5)), bilinear.transpose(0, 2, 3, 1), atol=1e-6
    )


@pytest.mark.parametrize("size", [(6, 10), (3, 15), (12, 5)])
def test_upsampling_by_whole_numbers_is_torchs_and_so_is_its_gradient(size):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 5, 4), dtype=np.float32)
    weight = rng.standard_normal((2, *size, 4), dtype=np.float32)
    theirs = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    expected = torch.nn.functional.interpolate(theirs, size, mode="nearest")
    (expected * torch.tensor(weight.transpose(0, 3, 1, 2).copy())).sum().backward()

    ours, pull = jax.vjp(lambda x: resize_nearest(x, size), jnp.asarray(x))
    np.testing.assert_array_equal(ours.transpose(0, 3, 1, 2), expected.detach())
    gradient = pull(jnp.asarray(weight))[0]
    np.testing.assert_allclose(gradient.transpose(0, 3, 1, 2), theirs.grad, atol=1e-5)


def test_average_pool_is_the_mean_of_what_lies_in_each_window():
    x = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1)
    pooled = average_pool(jnp.asarray(x), 2)[0, :, :, 0]
    np.testing.assert_allclose(pooled, [[3, 5, 6.5], [10.5, 12.5, 14]])


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "fpn"},
        {"kind": "blocks", "taps": (1, 2)},
        {"kind": "strided", "strides": ()},
        {"kind": "strided", "taps": (1,)},
        {"kind": "strided", "top_down": "up"},
    ],
)
def test_impossible_necks_are_refused(wrong):
    with pytest.raises(UserError, match="neck"):
        NeckConfig(width=24, **wrong)


def test_every_kind_has_a_class():
    assert {*NECKS, "detail"} == set(KINDS)


def test_mismatched_parts_are_refused():
    with pytest.raises(UserError, match="neck gives 96"):
        PoseConfig(SMALL_VIT, DecoderConfig("classic", 17, 24), NeckConfig("strided", 24))
    neck = NeckConfig("residual", 24, (1, 2), taps=(9,))
    with pytest.raises(UserError, match="taps blocks"):
        PoseConfig(SMALL_VIT, DecoderConfig("classic", 17, 24), neck)
