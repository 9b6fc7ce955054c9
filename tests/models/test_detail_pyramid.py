"""The pyramid that sees the picture: what it starts as, what it reads, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.decoding import decode_heatmaps
from vitpose_jax.keypoints.encoding import encode_heatmaps
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.resampling import resize_aligned, space_to_depth
from vitpose_jax.models.vit import VIT_SIZES, ViTConfig
from vitpose_jax.weights import load_pose_model, load_weights_into, save_pose_model

SMALL_VIT = ViTConfig(width=24, depth=2, num_heads=3, input_size=(64, 48))
DETAIL = NeckConfig("detail", 24, channels=8)
run = nnx.jit(lambda model, crops: model(crops))


def build(
    neck: NeckConfig | None, *, vit=SMALL_VIT, decoder="classic", filters=(16, 16), seed=0, **kwargs
) -> PoseModel:
    config = PoseConfig(vit, DecoderConfig(decoder, 17, vit.width, filters), neck)
    return PoseModel(config, rngs=nnx.Rngs(seed), **kwargs)


def crops_for(vit: ViTConfig, batch: int = 2) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (batch, *vit.input_size, 3))


def make_loud(model: PoseModel) -> None:
    """Heatmaps of the usual size, not those of initial weights of 0.001."""
    for deconv in getattr(model.decoder, "deconvs", ()):
        deconv.kernel[...] *= 50
    model.decoder.final.kernel[...] *= 100


def give_parts(source: PoseModel, target: PoseModel) -> None:
    for part in ("backbone", "decoder"):
        nnx.update(getattr(target, part), nnx.state(getattr(source, part)))


def teach(model: PoseModel, seed: int = 7) -> None:
    """A last layer as after training, not zeros."""
    kernel = model.neck.out.kernel
    kernel[...] = 0.1 * jax.random.normal(jax.random.key(seed), kernel.shape)


@pytest.mark.parametrize(
    ("neck", "decoder"),
    [
        (DETAIL, "classic"),
        (replace(DETAIL, taps=(1, 0), depth=2), "simple"),
        (replace(DETAIL, sources=("decoder",), finest=8), "classic"),
    ],
)
def test_it_starts_as_exactly_the_baseline(neck: NeckConfig, decoder: str):
    baseline, model = build(None, decoder=decoder), build(neck, decoder=decoder, seed=5)
    make_loud(baseline)
    give_parts(baseline, model)
    crops = crops_for(SMALL_VIT)
    theirs = np.asarray(run(baseline, crops))
    assert theirs.std() > 0.01
    np.testing.assert_array_equal(np.asarray(run(model, crops)), theirs)
    teach(model)
    assert np.abs(np.asarray(run(model, crops)) - theirs).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_at_the_size_of_vitpose_b(dtype):
    vit, neck = VIT_SIZES["base"], NeckConfig("detail", 768, channels=64)
    filters = (256, 256)
    baseline = build(None, vit=vit, filters=filters, dtype=dtype)
    model = build(neck, vit=vit, filters=filters, dtype=dtype, seed=5)
    make_loud(baseline)
    give_parts(baseline, model)
    crops = crops_for(vit, 1)
    plain = np.asarray(run(baseline, crops))
    np.testing.assert_array_equal(np.asarray(run(model, crops)), plain)
    if dtype == jnp.bfloat16:
        exact = build(neck, vit=vit, filters=filters)
        nnx.update(exact, nnx.state(model))
        teach(exact)
        teach(model)
        reference = np.asarray(run(exact, crops))
        deviation = np.abs(np.asarray(run(model, crops)) - reference).max()
        assert deviation < 0.03 * np.abs(reference).max()


@pytest.mark.parametrize("dropped", ["image", "backbone", "decoder"])
def test_it_reads_only_its_sources(dropped: str):
    model = build(replace(DETAIL, sources=tuple({"image", "backbone", "decoder"} - {dropped})))
    teach(model)
    inputs = {
        "image": crops_for(SMALL_VIT),
        "backbone": jax.random.normal(jax.random.key(2), (2, 4, 3, 24)),
        "decoder": jax.random.normal(jax.random.key(3), (2, 16, 12, 16)),
    }

    @nnx.jit
    def correction(neck, inputs):
        return neck.correction(inputs["image"], inputs["backbone"], [], inputs["decoder"])

    before = np.asarray(correction(model.neck, inputs))
    for name, value in inputs.items():
        after = np.asarray(correction(model.neck, inputs | {name: value + jnp.roll(value, 1, 2)}))
        assert np.array_equal(after, before) == (name == dropped), name


def test_heatmaps_of_twice_the_size_hold_the_same_keypoints():
    model = build(replace(DETAIL, finest=2))
    assert model.config.heatmap_size == (32, 24)
    size, heatmap_size = (256, 192), (64, 48)  # sizes play no part in the pyramid's parameters
    crop_xy = np.random.default_rng(0).uniform(40, 150, (1, 17, 2)).astype(np.float32)
    small, _ = encode_heatmaps(crop_xy, np.ones((1, 17), np.float32), size, heatmap_size, 2.0)
    maps = jnp.zeros((1, 16, 12, 24)), [], jnp.zeros((1, *heatmap_size, 16)), small

    @nnx.jit
    def decode(neck, crops):
        return decode_heatmaps(neck(crops, *maps), kernel=23)[0]  # twice as wide, like the peaks

    heatmap_xy = np.asarray(decode(model.neck, jnp.zeros((1, *size, 3))))
    np.testing.assert_allclose(heatmap_xy * [191 / 95, 255 / 127], crop_xy, atol=0.2)


def test_weights_go_through_a_folder(tmp_path: Path):
    model = build(replace(DETAIL, taps=(0,)))
    teach(model)
    save_pose_model(model, tmp_path)
    again = load_pose_model(tmp_path)
    assert again.config == model.config
    crops = crops_for(SMALL_VIT)
    np.testing.assert_array_equal(np.asarray(run(again, crops)), np.asarray(run(model, crops)))
    with pytest.raises(UserError, match="decoder was trained behind a neck of kind 'detail'"):
        load_weights_into(build(None), tmp_path)
    other, parts = build(replace(DETAIL, taps=(0,), channels=4)), ("backbone", "neck", "decoder")
    with pytest.raises(UserError, match=r"its neck differs from the model's: channels 8"):
        load_weights_into(other, tmp_path, parts)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"finest": 3}, "finest=3"),
        ({"sources": ()}, "at least one"),
        ({"sources": ("picture",)}, "picture"),
        ({"sources": ("image",), "taps": (0,)}, "add it to its sources"),
        ({"depth": 10**6}, "depth=1000000"),
        ({"depth": -1}, "depth=-1"),
    ],
)
def test_impossible_configurations_are_refused(wrong: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(DETAIL, **wrong)


def test_parts_that_do_not_fit_are_refused_with_both_shapes():
    with pytest.raises(UserError, match=r"1/4 .* is 16x12, but the decoder's heatmaps 8x6"):
        build(DETAIL, filters=(16,))
    small_patches = replace(SMALL_VIT, patch_size=8)
    with pytest.raises(UserError, match=r"1/16 .* is 4x3, but the backbone's map 8x6"):
        build(DETAIL, vit=small_patches)
    with pytest.raises(UserError, match=r"taps blocks \(2,\), but the backbone's are 0..1"):
        build(replace(DETAIL, taps=(2,)))
    with pytest.raises(UserError, match="neck takes 32 channels but the backbone gives 24"):
        build(replace(DETAIL, width=32))


def test_resampling_follows_pytorch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    nchw = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    resized = torch.nn.functional.interpolate(nchw, (12, 8), mode="bilinear", align_corners=True)
    ours = resize_aligned(jnp.asarray(x), (12, 8))
    np.testing.assert_allclose(ours, resized.numpy().transpose(0, 2, 3, 1), atol=1e-5)
    gathered = torch.nn.functional.pixel_unshuffle(nchw, 2).numpy()  # channels, then pixels
    ours = np.asarray(space_to_depth(jnp.asarray(x), 2)).reshape(2, 3, 2, 4, 3)
    theirs = gathered.reshape(2, 3, 4, 3, 2).transpose(0, 3, 4, 2, 1)
    np.testing.assert_array_equal(ours, theirs)
