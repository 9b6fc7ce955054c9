"""The fastest form of the network's heavy operations for each backend.

All forms compute the same values up to rounding. The gains are measured and explained in
experiments/benchmarks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

_CPU_FLOAT32_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
_GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False}
_FEW_IMAGES = 2
Heads = Float[Array, "batch tokens heads dims"]

_portable = ContextVar("portable", default=False)


def backend() -> str:
    """The backend that forms are chosen for: JAX's default one, or "any" (see `portable`)."""
    return "any" if _portable.get() else jax.default_backend()


@contextmanager
def portable() -> Iterator[None]:
    """Trace plain forms inside, made of standard operations only, which every backend can run.

    A program traced so holds no custom calls, for whose stability nobody vouches, and does not
    depend on the machine that traced it.
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def compiler_options(dtype: DTypeLike, images: int) -> dict[str, str | bool] | None:
    """XLA options for a network that computes in `dtype`, as `jax.jit(..., compiler_options=...)`.

    On CPUs XLA hands matrix products to YNNPACK. Its float32 kernels take 10 to 15% longer than
    XLA's own (Eigen), but divide the small products of one or two images better among threads; its
    bfloat16 kernels and its fused softmax are faster. On GPUs see `training_options`. None if there
    is nothing to choose, or if this version of XLA does not support the option.

    Args:
        dtype: of the products.
        images: how many go through the network at once, including mirrored ones.
    """
    if jax.default_backend() != "cpu":
        return training_options()
    if jnp.dtype(dtype) != jnp.float32 or images <= _FEW_IMAGES:
        return None
    return _accepted(**_CPU_FLOAT32_OPTIONS)


def training_options() -> dict[str, str | bool] | None:
    """XLA options for a training step.

    On GPUs every product goes to cuBLAS, whose kernels add bias and residual while they write the
    result; with Triton, which XLA tries by default, that takes another pass.
    """
    return _accepted(**_GPU_OPTIONS) if jax.default_backend() == "gpu" else None


@lru_cache
def _accepted(**options: str | bool) -> dict[str, str | bool] | None:
    """The options, or None if this version of XLA does not accept them."""
    try:
        jax.jit(lambda: 0.0).lower().compile(compiler_options=options)
    except Exception:  # XLA's own error type: an unknown option or value
        return None
    return options


def product_dtype(dtype: DTypeLike) -> DTypeLike | None:
    """`preferred_element_type` for products of matrices in `dtype`; None leaves it to JAX.

    XLA's CPU backend has fast bfloat16 products only where the result is float32; asked for a
    bfloat16 result it widens the operands and multiplies at float32's speed, half as fast.
    """
    on_cpu = backend() == "cpu"
    return jnp.float32 if on_cpu and jnp.dtype(dtype) == jnp.bfloat16 else None


def dense_product(
    x: Float[Array, "*batch in"], kernel: Float[Array, "in out"]
) -> Float[Array, "*batch out"]:
    """x times kernel, both of the same dtype.

    JAX computes the kernel's gradient as a product whose first factor is the transposed gradient of
    the output. In a residual network, XLA's CPU backend computes that array inside the transposing
    copy, from every layer above and with strided access, which takes longer than the products.
    On CPUs the gradient is therefore computed with the factors swapped.
    """
    return _cpu_product(x, kernel) if backend() == "cpu" else x @ kernel


@jax.custom_vjp
def _cpu_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.matmul(x, kernel, preferred_element_type=product_dtype(x.dtype))


def _cpu_product_forward(
    x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _cpu_product(x, kernel), (x, kernel)


def _cpu_product_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    gradient = gradient.astype(x.dtype)
    wide = product_dtype(x.dtype)
    of_x = jnp.matmul(gradient, kernel.T, preferred_element_type=wide)
    rows, columns = (array.reshape(-1, array.shape[-1]) for array in (x, gradient))
    of_kernel = jnp.matmul(rows.T, columns, preferred_element_type=wide)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


_cpu_product.defvjp(_cpu_product_forward, _cpu_product_backward)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """GELU, exact: erf in float32; `jax.nn.gelu`'s erfc takes twice as long.

    In bfloat16 on GPUs without a gradient, this is the tanh approximation, which cuBLAS computes
    while it writes the preceding product. The two differ by 5e-4 at most, as much as rounding x to
    bfloat16 does; with a gradient the approximation is no faster.
    """
    if backend() == "gpu" and x.dtype == jnp.bfloat16:
        return jax.nn.gelu(x, approximate=True)
    return _exact_gelu(x)


def _exact_gelu(x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + lax.erf(wide * np.float32(np.sqrt(0.5))))).astype(x.dtype)


def _gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _exact_gelu(x), x


def _gelu_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return jax.vjp(_exact_gelu, x)[1](gradient)


gelu.defvjp(_gelu_forward, _gelu_backward)


def attention(query: Heads, key: Heads, value: Heads) -> Heads:
    """softmax(query key^T / sqrt(dims)) value, over all tokens.

    In half precision on NVIDIA GPUs, this uses cuDNN's fused kernel if the device and version
    support it. Otherwise it uses plain products and divides by the softmax's sum after the second
    one, whose result is smaller; on CPUs, XLA fuses that into one kernel when the heads are a batch
    axis in memory.
    """
    head_dim = query.shape[-1]
    if backend() == "gpu" and _cudnn_attends(query.shape, query.dtype.name):
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    scores = _batched_product(query * query.dtype.type(head_dim**-0.5), key, contract=3)
    if backend() == "any":
        weights = softmax(scores).astype(value.dtype)
        mixed = _batched_product(weights, value, contract=2)
        return mixed.astype(value.dtype).transpose(0, 2, 1, 3)
    # The shift cancels, so its gradient, zero in exact arithmetic, is left out.
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
    mixed = _batched_product(weights.astype(value.dtype), value, contract=2)
    mixed = mixed / weights.sum(-1, keepdims=True)
    return mixed.astype(value.dtype).transpose(0, 2, 1, 3)


@jax.jit
def softmax(scores: jax.Array) -> jax.Array:
    """Over the last axis; an operation of its own, which other formats know by this name."""
    return jax.nn.softmax(scores)


def _batched_product(left: jax.Array, right: jax.Array, *, contract: int) -> jax.Array:
    """Contract the last axis of `left` with axis `contract` of `right`, batched over the first two.

    The result is float32.
    """
    dimensions = (((3,), (contract,)), ((0, 1), (0, 1)))
    return lax.dot_general(left, right, dimensions, preferred_element_type=jnp.float32)


@lru_cache
def _cudnn_attends(shape: tuple[int, ...], dtype: str) -> bool:
    """Whether cuDNN's attention and its gradient compile for these arrays on this GPU."""
    if dtype not in ("bfloat16", "float16"):
        return False

    def loss(x: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(x, x, x, implementation="cudnn").sum()

    few = jax.ShapeDtypeStruct((1, *shape[1:]), dtype)
    try:
        jax.jit(jax.grad(loss)).lower(few).compile()
    except Exception:  # no cuDNN, too old a GPU, an unsupported shape: each has its own type
        return False
    return True
