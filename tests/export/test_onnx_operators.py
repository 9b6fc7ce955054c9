"""Single operations in ONNX, run by ONNX Runtime, against JAX, for several sizes of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax import lax
from jax.export import symbolic_shape

from vitpose_jax.errors import UserError
from vitpose_jax.export.onnx_model import to_onnx
from vitpose_jax.models.backends import attention, gelu, portable
from vitpose_jax.models.layers import deconv, layer_norm
from vitpose_jax.models.resampling import average_pool, resize_bilinear, resize_nearest

onnx = pytest.importorskip("onnx")


KERNEL = np.random.default_rng(1).standard_normal((3, 3, 4, 4), np.float32)
SQUARE = np.random.default_rng(2).standard_normal((4, 4, 4, 6), np.float32)
ORDER = np.array([2, 0, 3, 1])


def conv(x, **more):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, more.pop("kernel", KERNEL), dimension_numbers=numbers, **more
    )


def neighbours(x):
    """The values at each row's maximum and beside it, as heatmaps are decoded."""
    batch, rows = x.shape[:2]
    peak = jnp.argmax(x.reshape(batch, -1, 4), axis=1)
    at = jnp.clip(peak[..., None] // x.shape[2] + jnp.arange(-1, 2), 0, rows - 1)
    b, k = jnp.arange(batch)[:, None, None], jnp.arange(4)[None, :, None]
    return x[b, at, 1, k]


FUNCTIONS = {
    "broadcast": lambda x: x * jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape),
    "broadcast_batch": lambda x: jnp.concatenate([x, jnp.ones(x.shape)], axis=1),
    "twice_the_batch": lambda x: sum(jnp.split(jnp.tanh(jnp.concatenate([x, x + 1])), 2)),
    "flip": lambda x: x[:, :, ::-1][..., ORDER],
    "strided": lambda x: x[:, ::2, 1::3],
    "one_place": lambda x: x[:, 1, 2, 3],
    "pad": lambda x: jnp.pad(x[:, :-1], ((0, 0), (2, 1), (0, 3), (0, 0))),
    "stack": lambda x: jnp.stack([x, -x], axis=3).reshape(-1, 6, 10, 4),
    "split": lambda x: jnp.split(x, [1, 3], axis=3)[1],
    "whole_numbers": lambda x: (x * 9).astype(jnp.int32) // 4 + (x * 9).astype(jnp.int32) % 4,
    "comparisons": lambda x: jnp.where((x > 0) & ~(x >= 1) | (x != x[:, :1]), x, 7.0),
    "all_any": lambda x: jnp.all(x > -2, axis=-1) | ~jnp.any(x > 1, axis=-1),
    "powers": lambda x: x**2 + x**3 + jnp.sqrt(jnp.abs(x)) + lax.rsqrt(jnp.abs(x) + 1),
    "clamp": lambda x: jnp.clip(x, -0.5, 0.5) + jnp.sign(x) + jnp.floor(x),
    "maxima": lambda x: x.max((1, 2)) - x.min(-1).sum((1, 2))[:, None],
    "first_of_bools": lambda x: jnp.argmax(x > 0, axis=1),
    "cummax": lambda x: lax.cummax(x, axis=1),
    "take_along": lambda x: jnp.take_along_axis(x, (jnp.abs(x[:, :2]) * 3).astype(int) % 6, 1),
    "neighbours": neighbours,
    "product": lambda x: jnp.einsum("bhwc,cd->bhwd", x, KERNEL[0, 0]),
    "batched_product": lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x + 1),
    "product_from_the_left": lambda x: jnp.einsum("yh,bhwc->bywc", SQUARE[0, 0].T, x[:, :4]),
    "product_of_two_axes": lambda x: jnp.einsum("bhwc,bhwd->bcd", x, x),
    "conv": lambda x: conv(x, window_strides=(2, 1), padding=((1, 0), (1, 2))),
    "conv_dilated": lambda x: conv(x, window_strides=(1, 1), padding="SAME", rhs_dilation=(2, 2)),
    "conv_groups": lambda x: conv(
        x, kernel=KERNEL[:, :, :1], window_strides=(1, 1), padding="SAME", feature_group_count=4
    ),
    "deconv": lambda x: deconv(x, jnp.asarray(SQUARE)),
    "bilinear": lambda x: resize_bilinear(x, (12, 15)),
    "nearest": lambda x: resize_nearest(x, (12, 15)),
    "nearest_uneven": lambda x: resize_nearest(x, (8, 7)),
    "pool": lambda x: average_pool(x, 4),
    "layer_norm": lambda x: layer_norm(x, *map(jnp.asarray, KERNEL[0, 0, :2]), 1e-6),
    "gelu": gelu,
    "jax_gelu": jax.nn.gelu,
    "attention": lambda x: attention(x[:, 0, :, None], x[:, 1, :, None], x[:, 2, :, None]),
}


def exported(function):
    (batch,) = symbolic_shape("batch")
    spec = {"x": jax.ShapeDtypeStruct((batch, 6, 5, 4), jnp.float32)}
    with portable():
        model = to_onnx(lambda _, x: (function(x),), {}, spec, ["y"], batch)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_operation_gives_what_jax_gives(name: str) -> None:
    function = FUNCTIONS[name]
    session = onnxruntime.InferenceSession(exported(function).SerializeToString())
    for size in (1, 3):
        x = np.random.default_rng(size).standard_normal((size, 6, 5, 4), np.float32)
        (found,) = session.run(["y"], {"x": x})
        expected = np.asarray(function(jnp.asarray(x)))
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_constants_are_worked_out_beforehand_and_stored_once() -> None:
    table = jnp.asarray(KERNEL[0, 0])
    model = exported(lambda x: x @ (table.T * 2 + 1) + x @ (table.T * 2 + 1))
    assert [node.op_type for node in model.graph.node] == ["MatMul", "MatMul", "Add", "Identity"]
    assert len(model.graph.initializer) <= 2


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (jnp.sort, "'sort'"),
        (lambda x: lax.cummax(x, axis=1, reverse=True), "cumulative maximum"),
        (lambda x: lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0))), "padding"),
        (lambda x: lax.dynamic_slice(x, (0, x[0, 0, 0, 0].astype(int), 0, 0), x.shape), "dynamic"),
    ],
)
def test_what_has_no_rule_is_named(function, named: str) -> None:
    with pytest.raises(UserError, match=f"{named}.* cannot be exported"):
        exported(function)
