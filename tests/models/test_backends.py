"""The fast forms compute what the plain ones do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitpose_jax.models import layers
from vitpose_jax.models.backends import (
    attention,
    compiler_options,
    dense_product,
    gelu,
    product_dtype,
    training_options,
)


def _draw(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def test_attention_and_its_gradient_are_jaxs() -> None:
    query, key, value = (3 * _draw(2, 24, 3, 16, seed=i) for i in range(3))
    probe = _draw(2, 24, 3, 16, seed=3)

    def loss(function):
        return lambda *qkv: (function(*qkv) * probe).sum()

    plain = jax.nn.dot_product_attention
    np.testing.assert_allclose(
        attention(query, key, value), plain(query, key, value), rtol=0, atol=1e-4
    )
    ours = jax.grad(loss(attention), argnums=(0, 1, 2))(query, key, value)
    theirs = jax.grad(loss(plain), argnums=(0, 1, 2))(query, key, value)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-3)


def test_attention_survives_huge_scores() -> None:
    mixed = attention(1e4 * _draw(1, 8, 1, 4), 1e4 * _draw(1, 8, 1, 4, seed=1), _draw(1, 8, 1, 4))
    assert np.isfinite(mixed).all()


def test_attention_keeps_the_dtype_and_rounds_only_the_factors() -> None:
    exact = [_draw(2, 24, 3, 16, seed=i) for i in range(3)]
    mixed = attention(*(x.astype(jnp.bfloat16) for x in exact))
    assert mixed.dtype == jnp.bfloat16
    np.testing.assert_allclose(mixed.astype(jnp.float32), attention(*exact), rtol=0, atol=0.03)


def test_gelu_is_the_exact_one() -> None:
    x = jnp.linspace(-12, 12, 4001)
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), rtol=0, atol=1e-6)
    gradient = jax.vmap(jax.grad(gelu))(x)
    wanted = jax.vmap(jax.grad(lambda v: jax.nn.gelu(v, approximate=False)))(x)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-6)


def test_gelu_of_gpus_is_the_tanh_form_unless_a_gradient_is_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x = jnp.linspace(-8, 8, 4001)
    rounded = x.astype(jnp.bfloat16)
    exact = jax.nn.gelu(rounded.astype(jnp.float32), approximate=False)
    off = np.abs(gelu(rounded).astype(jnp.float32) - exact)
    assert 1e-4 < off.max() < 2e-2  # half a step of bfloat16 at 8 is 1.6e-2
    assert off[np.abs(exact) < 1].max() < 8e-3
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), rtol=0, atol=1e-6)

    values, pull = jax.vjp(gelu, rounded)
    np.testing.assert_allclose(
        values.astype(jnp.float32), exact.astype(jnp.bfloat16).astype(jnp.float32), atol=1e-5
    )
    wanted = jax.vmap(jax.grad(lambda v: jax.nn.gelu(v, approximate=False)))(
        rounded.astype(jnp.float32)
    )
    gradient = pull(jnp.ones_like(rounded))[0].astype(jnp.float32)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=5e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_form_of_the_transposed_convolution_agrees(dtype: str) -> None:
    x, kernel = _draw(2, 5, 3, 8).astype(dtype), _draw(4, 4, 8, 6, seed=1).astype(dtype)
    wanted = layers.deconv_dilated(x.astype(jnp.float32), kernel.astype(jnp.float32))
    for form in (layers.deconv, layers.deconv_by_phases, layers.deconv_dilated):
        got = form(x, kernel).astype(jnp.float32)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 if dtype == "float32" else 0.3)


@pytest.mark.parametrize("images", [1, 8])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_options_are_accepted_and_change_no_result(dtype: jnp.dtype, images: int) -> None:
    left, right = _draw(24, 32).astype(dtype), _draw(32, 16, seed=1).astype(dtype)

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, preferred_element_type=product_dtype(dtype))

    with_options = jax.jit(product, compiler_options=compiler_options(dtype, images))(left, right)
    wanted = left.astype(jnp.float32) @ right.astype(jnp.float32)
    np.testing.assert_allclose(with_options.astype(jnp.float32), wanted, rtol=0, atol=1e-4)


def test_only_small_batches_keep_the_default_products() -> None:
    assert compiler_options(jnp.float32, 2) is None
    assert compiler_options(jnp.float32, 3) == compiler_options(jnp.float32, 64) is not None
    assert compiler_options(jnp.bfloat16, 64) is None
    assert training_options() is None


def test_gradients_of_dense_products_are_jaxs() -> None:
    x, kernel, probe = _draw(2, 7, 12), _draw(12, 5, seed=1), _draw(2, 7, 5, seed=2)
    ours = jax.grad(lambda x, k: (dense_product(x, k) * probe).sum(), (0, 1))(x, kernel)
    plain = jax.grad(lambda x, k: ((x @ k) * probe).sum(), (0, 1))(x, kernel)
    for mine, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)
