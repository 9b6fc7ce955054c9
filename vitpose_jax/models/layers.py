"""Layers that Flax does not have in the form that PyTorch checkpoints need."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial, reduce

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vitpose_jax.errors import UserError
from vitpose_jax.models.backends import backend, dense_product, product_dtype

BATCH_NORM_MOMENTUM = 0.1  # as in PyTorch: the weight of the new batch
BATCH_NORM_EPS = 1e-5


def full_precision(dtype: DTypeLike) -> AbstractContextManager[None]:
    """A context in which float32 products are float32 on every device.

    By default JAX multiplies float32 matrices in TF32 on recent GPUs and in bfloat16 on TPUs, which
    changes heatmaps by more than 1e-4. For speed, use bfloat16 as the compute dtype.
    """
    return jax.default_matmul_precision("highest" if dtype == jnp.float32 else "default")


def add_bias(x: Float[Array, "..."], bias: Float[Array, "..."]) -> Float[Array, "..."]:
    """x plus a bias over its last axes, in the dtype of x; the bias's gradient is a float32 sum.

    If the bias were cast before broadcasting, as usual, its gradient in a bfloat16 layer would be a
    bfloat16 sum over all tokens of the batch, in which GPUs round at every step.
    """
    return x + jnp.broadcast_to(bias, x.shape).astype(x.dtype)


class Dense(nnx.Linear):
    """`nnx.Linear` in the form that the backend runs best."""

    bias: nnx.Param[jax.Array]

    def __call__(self, x: Float[Array, "*batch _"]) -> Float[Array, "*batch _"]:  # type: ignore[override]  # no sharding by hand
        return self._outputs(x, self.kernel[...], self.bias[...])

    def parts(self, x: jax.Array, count: int) -> list[jax.Array]:
        """The outputs cut into `count` equal parts.

        On GPUs each is a separate product, since slices of one array would all be copied.
        """
        if backend() != "gpu":
            return jnp.split(self(x), count, axis=-1)
        kernels = jnp.split(self.kernel[...], count, axis=1)
        biases = jnp.split(self.bias[...], count)
        return [self._outputs(x, *pair) for pair in zip(kernels, biases, strict=True)]

    def _outputs(self, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return add_bias(dense_product(x.astype(self.dtype), kernel.astype(self.dtype)), bias)


class LayerNorm(nnx.LayerNorm):
    """`nnx.LayerNorm` over the last axis, statistics in float32, with a gradient of its own.

    With JAX's gradient, XLA recomputes the statistics for the scale, in a pass that writes a
    float32 array of the tokens' size; here they are kept. The variance takes two passes, since the
    one-pass formula loses precision if the mean is large.
    """

    scale: nnx.Param[jax.Array]
    bias: nnx.Param[jax.Array]

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:  # type: ignore[override]  # no masks
        return layer_norm(x.astype(self.dtype), self.scale[...], self.bias[...], self.epsilon)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(
    x: Float[Array, "*batch c"], scale: Float[Array, " c"], bias: Float[Array, " c"], epsilon: float
) -> Float[Array, "*batch c"]:
    """x to zero mean and unit variance, times scale, plus bias."""
    return _layer_norm_forward(x, scale, bias, epsilon)[0]


def _layer_norm_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    factor = lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + epsilon)
    out = ((wide - mean) * factor * scale + bias).astype(x.dtype)
    # Without the barrier XLA would recompute them.
    return out, (x, *lax.optimization_barrier((mean, factor)), scale)


def _layer_norm_backward(
    epsilon: float, saved: tuple[jax.Array, ...], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, factor, scale = saved
    gradient = gradient.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * factor
    scaled = gradient * scale
    along = (scaled * normal).mean(-1, keepdims=True)
    of_x = factor * (scaled - scaled.mean(-1, keepdims=True) - normal * along)
    tokens = tuple(range(x.ndim - 1))
    return of_x.astype(x.dtype), (gradient * normal).sum(tokens), gradient.sum(tokens)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, as in `torch.nn.BatchNorm2d`.

    Running variances are unbiased (n / (n - 1)) while the batch is normalised with the biased
    variance; `flax.nnx.BatchNorm` keeps the biased one. Under `jit` on sharded batches the means
    are means over the global batch. Statistics and normalisation are float32.
    """

    def __init__(self, channels: int, *, dtype: DTypeLike = jnp.float32) -> None:
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))

    def __call__(
        self, x: Float[Array, "*batch c"], *, train: bool = False
    ) -> Float[Array, "*batch c"]:
        """`train` normalises by the batch's statistics and updates the running ones."""
        x = x.astype(jnp.float32)
        if train:
            axes = tuple(range(x.ndim - 1))
            mean, var = x.mean(axes), x.var(axes)
            count = x.size // x.shape[-1]
            self._update(self.mean, mean)
            self._update(self.var, var * (count / max(count - 1, 1)))
        else:
            mean, var = self.mean[...], self.var[...]
        factor = self.scale[...] * lax.rsqrt(var + BATCH_NORM_EPS)
        return ((x - mean) * factor + self.bias[...]).astype(self.dtype)

    @staticmethod
    def _update(running: nnx.BatchStat, new: jax.Array) -> None:
        new = lax.stop_gradient(new)
        running[...] = running[...] + BATCH_NORM_MOMENTUM * (new - running[...])


class Deconv(nnx.Module):
    """Transposed convolution to twice the size (kernel 4, stride 2, padding 1, no bias).

    The kernel is (4, 4, in, out), not flipped: `kernel[a, b]` is what input pixel (i, j) adds to
    output pixel (2i - 1 + a, 2j - 1 + b), which is the convention of `torch.nn.ConvTranspose2d`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.dtype = dtype
        init = nnx.initializers.normal(0.001)
        self.kernel = nnx.Param(init(rngs.params(), (4, 4, in_channels, out_channels)))

    def __call__(self, x: Float[Array, "b h w _"]) -> Float[Array, "b 2*h 2*w _"]:
        return deconv(x.astype(self.dtype), self.kernel[...].astype(self.dtype))


def deconv(
    x: Float[Array, "b h w in"], kernel: Float[Array, "4 4 in out"]
) -> Float[Array, "b 2*h 2*w out"]:
    """Transposed convolution, see `Deconv`.

    GPUs and TPUs run it fastest as one dilated convolution. XLA's CPU backend is faster with four
    small convolutions, one for each parity of output row and column; but it takes many times as
    long for the gradient that JAX derives from them, and has bfloat16 only in matrix products.
    """
    if backend() != "cpu":
        return deconv_dilated(x, kernel)
    if x.dtype == jnp.float32:
        return _deconv_cpu(x, kernel)
    return deconv_by_phases(x, kernel)


def deconv_dilated(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same map as `deconv`: one convolution of the input with zeros between its pixels."""
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.custom_vjp
def _deconv_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same map as `deconv`: four convolutions, with a gradient of its own."""

    def phase(odd_row: int, odd_column: int) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel[(3, 2)[odd_row] :: -2, (3, 2)[odd_column] :: -2],
            window_strides=(1, 1),
            padding=((1 - odd_row, odd_row), (1 - odd_column, odd_column)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    return _interleave(phase)


def deconv_by_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same map as `deconv`: four matrix products for each parity of output row and column.

    Output row 2m takes input rows m - 1 and m through kernel rows 3 and 1; output row 2m + 1 takes
    m and m + 1 through kernel rows 2 and 0; columns likewise. Gathering the four pixels for a
    single product would take longer than the product.
    """
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel_rows = ((3, 1), (2, 0))

    def phase(odd_row: int, odd_column: int) -> jax.Array:
        products = [
            jnp.matmul(
                padded[:, odd_row + i :, odd_column + j :][:, :height, :width],
                kernel[a, b],
                preferred_element_type=product_dtype(x.dtype),
            )
            for i, a in enumerate(kernel_rows[odd_row])
            for j, b in enumerate(kernel_rows[odd_column])
        ]
        return reduce(jnp.add, products)

    return _interleave(phase)


def _interleave(phase: Callable[[int, int], jax.Array]) -> jax.Array:
    """(B, 2H, 2W, C) from `phase(odd_row, odd_column)`, each (B, H, W, C)."""
    rows = [jnp.stack([phase(r, 0), phase(r, 1)], axis=3) for r in (0, 1)]
    batch, height, _, width, _, channels = (whole := jnp.stack(rows, axis=2)).shape
    return whole.reshape(batch, 2 * height, 2 * width, channels)


def _deconv_forward(
    x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _deconv_cpu(x, kernel), (x, kernel)


def _deconv_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The input's gradient as one convolution; the kernel's as one product per tap."""
    x, kernel = saved
    batch, height, width, channels = x.shape
    # This is traced when the gradient is taken, outside the model's own precision context.
    with full_precision(x.dtype):
        of_x = lax.conv_general_dilated(
            gradient,
            kernel.swapaxes(2, 3),
            window_strides=(2, 2),
            padding=((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        padded = jnp.pad(gradient, ((0, 0), (1, 1), (1, 1), (0, 0)))
        pairs = padded.reshape(batch, height + 1, 2, width + 1, 2, -1)
        inputs = x.reshape(-1, channels).T
        of_taps = []
        for a in range(4):
            for b in range(4):  # what input pixel (i, j) adds to: see `Deconv`
                rows, columns = slice(a // 2, a // 2 + height), slice(b // 2, b // 2 + width)
                outputs = pairs[:, rows, a % 2, columns, b % 2]
                of_taps.append(inputs @ outputs.reshape(-1, kernel.shape[3]))
        return of_x, jnp.stack(of_taps).reshape(kernel.shape)


_deconv_cpu.defvjp(_deconv_forward, _deconv_backward)


def check_heads(width: int, num_heads: int) -> None:
    """Raise UserError unless the number of attention heads divides the width."""
    if num_heads < 1 or width % num_heads:
        raise UserError(f"width {width} is not a multiple of {num_heads} heads")


def fused_attention(qkv: Float[Array, "b n _"], num_heads: int) -> Float[Array, "b n _"]:
    """Multi-head self-attention; queries, keys and values are concatenated in the last axis."""
    batch, tokens, _ = qkv.shape
    parts = qkv.reshape(batch, tokens, 3, num_heads, -1)
    mixed = jax.nn.dot_product_attention(parts[:, :, 0], parts[:, :, 1], parts[:, :, 2])
    return mixed.reshape(batch, tokens, -1)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero a share `rate` of the entries and scale up the rest; without a key, return x."""
    if key is None or rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def drop_path(branch: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Stochastic depth (Huang et al., 2016): drop a residual branch for random samples.

    With probability `rate`, a sample's branch (B, ...) is zero; the others are divided by 1 - rate
    to keep the expectation. If `key` is None or `rate` is 0, the branch is unchanged.
    """
    if key is None or rate == 0.0:
        return branch
    shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
    keep = jax.random.bernoulli(key, 1.0 - rate, shape)
    return jnp.where(keep, branch / (1.0 - rate), jnp.zeros_like(branch))
