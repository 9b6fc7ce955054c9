"""The backbone alone: shapes, taps, stochastic depth, rematerialisation, bad arguments."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.models.layers import drop_path
from vitpose_jax.models.vit import VIT_SIZES, ViT, ViTConfig

TINY = ViTConfig(width=24, depth=4, num_heads=3, input_size=(64, 48))
MOE = replace(TINY, num_experts=6, part_features=6)


@pytest.fixture(scope="module")
def crops() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (3, 64, 48, 3))


def test_sizes_have_the_published_shapes() -> None:
    shapes = {name: (c.width, c.depth, c.num_heads) for name, c in VIT_SIZES.items()}
    assert shapes == {
        "small": (384, 12, 12),
        "base": (768, 12, 12),
        "large": (1024, 24, 16),
        "huge": (1280, 32, 16),
    }
    # The original counts 85912337 parameters with its simple decoder, a 3x3 convolution.
    abstract = nnx.eval_shape(lambda: ViT(VIT_SIZES["base"], rngs=nnx.Rngs(0)))
    assert (
        sum(v.size for v in jax.tree.leaves(nnx.state(abstract))) == 85912337 - (9 * 768 + 1) * 17
    )


def test_taps_in_the_order_asked_for(crops: jax.Array) -> None:
    vit = ViT(TINY, rngs=nnx.Rngs(0))
    features, (last, first) = vit.with_taps(crops, blocks=(3, 0))
    assert features.shape == last.shape == first.shape == (3, 4, 3, 24)
    np.testing.assert_allclose(vit.last_norm(last), features, atol=1e-6)
    _, (last, _) = vit.with_taps(crops, blocks=(3, 0), norm=True)
    np.testing.assert_allclose(last, features, atol=1e-6)
    np.testing.assert_allclose(
        first, vit.blocks[0](vit.embed(crops), None, None).reshape(first.shape), atol=1e-6
    )


def test_patch_embedding_is_the_padded_convolution(crops: jax.Array) -> None:
    vit = ViT(TINY, rngs=nnx.Rngs(0))
    vit.pos_embed[...] = jnp.zeros_like(vit.pos_embed[...])
    kernel = vit.patch_embed.kernel[...].reshape(16, 16, 3, 24)
    convolved = jax.lax.conv_general_dilated(
        crops, kernel, (16, 16), ((2, 2), (2, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(vit.embed(crops).reshape(convolved.shape), convolved, atol=1e-5)


def test_remat_changes_nothing_but_memory(crops: jax.Array) -> None:
    config = replace(TINY, drop_path_rate=0.4)
    plain = ViT(config, rngs=nnx.Rngs(0))
    remat = ViT(replace(config, remat=True), rngs=nnx.Rngs(0))

    def loss(vit: ViT) -> jax.Array:
        return (vit(crops, train=True, key=jax.random.key(5)) ** 2).mean()

    value, gradient = nnx.value_and_grad(loss)(plain)
    remat_value, remat_gradient = nnx.value_and_grad(loss)(remat)
    np.testing.assert_allclose(value, remat_value, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(remat_gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    graph, state = nnx.split(remat)
    jaxpr = jax.make_jaxpr(jax.grad(lambda s: loss(nnx.merge(graph, s))))(state)
    assert "remat" in str(jaxpr) or "checkpoint" in str(jaxpr)


def test_drop_path_keeps_the_expectation_sample_by_sample() -> None:
    branch = jnp.ones((20000, 2, 3))
    out = np.asarray(drop_path(branch, 0.3, jax.random.key(0)))
    assert set(np.unique(out.round(5))) == {0.0, np.float32(1 / 0.7).round(5)}
    assert (out == out[:, :1, :1]).all(), "a sample's branch goes as a whole"
    assert abs((out[:, 0, 0] == 0).mean() - 0.3) < 0.015
    assert abs(out.mean() - 1) < 0.02
    np.testing.assert_array_equal(drop_path(branch, 0.3, None), branch)


def test_drop_path_rises_linearly_and_acts_in_training_only(crops: jax.Array) -> None:
    vit = ViT(replace(TINY, drop_path_rate=0.6), rngs=nnx.Rngs(0))
    np.testing.assert_allclose([b.drop_rate for b in vit.blocks], [0, 0.2, 0.4, 0.6], rtol=1e-6)
    with pytest.raises(ValueError, match="key="):
        vit(crops, train=True)
    plain = vit(crops)
    one, two = (vit(crops, train=True, key=jax.random.key(s)) for s in (0, 1))
    assert not np.allclose(one, plain)
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(one, vit(crops, train=True, key=jax.random.key(0)))


def test_experts_are_those_of_each_sample(crops: jax.Array) -> None:
    vit = ViT(MOE, rngs=nnx.Rngs(0))
    mixed = vit(crops, np.array([5, 1, 0]))
    for row, expert in enumerate((5, 1, 0)):
        alone = vit(crops[row : row + 1], expert)
        np.testing.assert_allclose(mixed[row], alone[0], atol=1e-5)
    assert not np.allclose(vit(crops, 0), vit(crops, 1))


def test_only_the_chosen_expert_gets_a_gradient(crops: jax.Array) -> None:
    vit = ViT(MOE, rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda m: (m(crops, jnp.array([2, 2, 4])) ** 2).mean())(vit)
    size = np.abs(gradient["blocks"][0]["mlp"]["experts"]["kernel"][...]).sum((1, 2))
    assert [i for i in range(6) if size[i] > 0] == [2, 4]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "pass dataset_index"),
        (6, "0..5"),
        (np.array([0, 1, -1]), "0..5"),
        (np.array([0, 1]), r"shape \(2,\)"),
    ],
)
def test_bad_dataset_index(crops: jax.Array, index: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViT(MOE, rngs=nnx.Rngs(0))(crops, index)


@pytest.mark.parametrize("size", [(250, 192), (0, 192), (256,)])
def test_input_size_must_be_multiples_of_16(size: tuple) -> None:
    with pytest.raises(UserError, match="multiples of 16"):
        replace(TINY, input_size=size)


def test_patches_have_a_size() -> None:
    with pytest.raises(UserError, match="patch_size 0"):
        replace(TINY, patch_size=0)


def test_width_of_the_mlp() -> None:
    """As given by a ratio of two widths, which may lie a hair too low; else rounded down."""
    for hidden in range(1, 1000):
        assert ViTConfig(176, 1, 1, mlp_ratio=hidden / 176).mlp_width == hidden
    assert ViTConfig(96, 1, 1, mlp_ratio=3.3).mlp_width == 316


def test_crops_of_another_size(crops: jax.Array) -> None:
    with pytest.raises(ValueError, match=r"takes \(batch, 64, 48, 3\)"):
        ViT(TINY, rngs=nnx.Rngs(0))(crops[:, :48])
    with pytest.raises(ValueError, match="no block 4"):
        ViT(TINY, rngs=nnx.Rngs(0)).with_taps(crops, blocks=(4,))


@pytest.mark.parametrize("size", [("(64", "48)"), 64, (64, "x")])
def test_an_input_size_that_is_no_numbers(size: object) -> None:
    with pytest.raises(UserError, match="two whole numbers"):
        replace(TINY, input_size=size)


def test_bfloat16_computes_in_bfloat16_on_float32_parameters(crops: jax.Array) -> None:
    full = ViT(TINY, rngs=nnx.Rngs(0))
    half = ViT(TINY, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert half(crops).dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves(nnx.state(half, nnx.Param))} == {jnp.dtype("float32")}
    difference = np.abs(half(crops).astype(jnp.float32) - full(crops)).max()
    assert 0 < difference < 0.1
