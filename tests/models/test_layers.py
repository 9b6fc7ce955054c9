"""Layers against PyTorch's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.models.decoders import DecoderConfig, SimpleDecoder
from vitpose_jax.models.layers import (
    BatchNorm,
    Dense,
    LayerNorm,
    add_bias,
    deconv,
    deconv_by_phases,
)

torch = pytest.importorskip("torch")


def _nchw(x: np.ndarray) -> "torch.Tensor":
    return torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy())


def test_deconv_and_its_gradient_are_torchs() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 3, 7), dtype=np.float32)
    kernel = rng.standard_normal((4, 4, 7, 6), dtype=np.float32)
    weight = rng.standard_normal((2, 10, 6, 6), dtype=np.float32)

    torch_x = _nchw(x).requires_grad_()
    torch_kernel = torch.tensor(kernel.transpose(2, 3, 0, 1).copy()).requires_grad_()
    expected = torch.nn.functional.conv_transpose2d(torch_x, torch_kernel, stride=2, padding=1)
    (expected * _nchw(weight)).sum().backward()

    for function in (deconv, deconv_by_phases):
        out, pull = jax.vjp(function, jnp.asarray(x), jnp.asarray(kernel))
        np.testing.assert_allclose(_nchw(out), expected.detach(), atol=2e-5)
        x_gradient, kernel_gradient = pull(jnp.asarray(weight))
        np.testing.assert_allclose(_nchw(x_gradient), torch_x.grad, atol=5e-5)
        np.testing.assert_allclose(
            kernel_gradient, torch_kernel.grad.permute(2, 3, 0, 1), atol=5e-5
        )


def test_batch_norm_trains_and_runs_like_torchs() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = BatchNorm(5), torch.nn.BatchNorm2d(5)
    for _ in range(3):
        x = 3 + 2 * rng.standard_normal((2, 4, 3, 5), dtype=np.float32)
        np.testing.assert_allclose(
            _nchw(ours(jnp.asarray(x), train=True)), theirs(_nchw(x)).detach(), atol=1e-5
        )
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean, rtol=1e-5)
    np.testing.assert_allclose(ours.var[...], theirs.running_var, rtol=1e-5)
    before = np.asarray(ours.var[...])
    np.testing.assert_allclose(
        _nchw(ours(jnp.asarray(x))), theirs.eval()(_nchw(x)).detach(), atol=1e-5
    )
    np.testing.assert_array_equal(ours.var[...], before)


def test_simple_decoder_upsamples_like_torch() -> None:
    rng = np.random.default_rng(0)
    decoder = SimpleDecoder(DecoderConfig("simple", 3, 4), rngs=nnx.Rngs(0))
    x = rng.standard_normal((2, 4, 3, 4), dtype=np.float32)
    up = torch.nn.functional.interpolate(
        _nchw(x).relu(), scale_factor=4, mode="bilinear", align_corners=False
    )
    kernel = torch.tensor(np.asarray(decoder.final.kernel[...]).transpose(3, 2, 0, 1).copy())
    expected = torch.nn.functional.conv2d(up, kernel, padding=1)
    np.testing.assert_allclose(_nchw(decoder(jnp.asarray(x))), expected, atol=1e-6)


def test_layer_norm_and_its_gradient_are_torchs() -> None:
    rng = np.random.default_rng(0)
    x = 5 + 3 * rng.standard_normal((2, 7, 12), dtype=np.float32)
    scale, bias = rng.standard_normal((2, 12), dtype=np.float32)
    weight = rng.standard_normal(x.shape, dtype=np.float32)
    ours = LayerNorm(12, epsilon=1e-6, rngs=nnx.Rngs(0))
    ours.scale[...], ours.bias[...] = jnp.asarray(scale), jnp.asarray(bias)

    inputs = [torch.tensor(array, requires_grad=True) for array in (x, scale, bias)]
    expected = torch.nn.functional.layer_norm(inputs[0], (12,), *inputs[1:], eps=1e-6)
    (expected * torch.tensor(weight)).sum().backward()

    gradients, of_x = nnx.grad(lambda layer, x: (layer(x) * weight).sum(), argnums=(0, 1))(
        ours, jnp.asarray(x)
    )
    np.testing.assert_allclose(ours(jnp.asarray(x)), expected.detach(), atol=1e-5)
    for mine, other in zip(
        (of_x, gradients["scale"][...], gradients["bias"][...]), inputs, strict=True
    ):
        np.testing.assert_allclose(mine, other.grad, atol=2e-5)


def test_layer_norm_keeps_digits_beside_a_large_mean() -> None:
    x = 1000 + np.random.default_rng(0).standard_normal((4, 64), dtype=np.float32)
    wide = x.astype(np.float64)
    wanted = (wide - wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True)
    layer = LayerNorm(64, epsilon=1e-6, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(layer(jnp.asarray(x)), wanted, atol=1e-4)


def test_the_gradient_of_a_bfloat16_bias_is_a_float32_sum() -> None:
    gradient = np.random.default_rng(0).uniform(0.5, 1.5, (20_000, 3))
    rounded = jnp.asarray(gradient, jnp.bfloat16)
    _, pull = jax.vjp(lambda bias: add_bias(jnp.zeros_like(rounded), bias), jnp.zeros(3))
    wanted = np.asarray(rounded, np.float64).sum(0)
    np.testing.assert_allclose(pull(rounded)[0], wanted, rtol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_parts_of_a_dense_layer_are_its_outputs_cut(monkeypatch, backend: str) -> None:
    rng = np.random.default_rng(0)
    layer = Dense(8, 12, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.asarray(rng.standard_normal(12, dtype=np.float32))
    x = jnp.asarray(rng.standard_normal((2, 5, 8), dtype=np.float32))
    wanted = np.split(x @ layer.kernel[...] + layer.bias[...], 3, axis=-1)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    np.testing.assert_allclose(layer.parts(x, 3), wanted, atol=1e-5)
