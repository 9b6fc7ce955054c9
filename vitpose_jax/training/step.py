"""One update of the training state: a pure function, compiled once."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vitpose_jax.models.backends import training_options
from vitpose_jax.training.optimizer import Parameters
from vitpose_jax.training.sharding import batch_sharding, state_sharding
from vitpose_jax.training.state import Model, ModelGraph, TrainState, merge_model, split_model

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
LossFunction = Callable[[Model, Batch, jax.Array], tuple[jax.Array, Metrics]]
"""(model, device batch, random key) -> (float32 loss, float32 scalars to log)."""

TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def make_train_step(
    graph: ModelGraph[Model],
    loss_fn: LossFunction[Model],
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
) -> TrainStep:
    """Return the function (state, batch, key of the run) -> (state, metrics).

    The step number is folded into the key, so that a step can be replayed. With accumulate=n, a
    batch is processed in n parts, one after another, and their gradients are averaged; batch norm
    sees one part at a time, as in PyTorch. Metrics are `loss`, `grad_norm` (before clipping) and
    those that `loss_fn` adds.
    """

    def loss_of(
        trainable: Parameters, frozen: Parameters, other: Parameters, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, tuple[Parameters, Metrics]]:
        model = merge_model(graph, trainable, frozen, other)
        loss, metrics = loss_fn(model, batch, key)
        _, _, other = split_model(model)
        return loss, (other, {"loss": loss, **metrics})

    differentiate = jax.grad(loss_of, has_aux=True)

    def accumulated(
        state: TrainState, batch: Batch, key: jax.Array
    ) -> tuple[Parameters, tuple[Parameters, Metrics]]:
        # Neighbouring rows go to different parts, so that each part is spread over all devices.
        parts = jax.tree.map(
            lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
        )

        def add(
            carry: tuple[Parameters, Parameters], part_and_index: tuple[Batch, jax.Array]
        ) -> tuple[tuple[Parameters, Parameters], Metrics]:
            total, other = carry
            part, index = part_and_index
            part_key = jax.random.fold_in(key, index)
            grads, (other, metrics) = differentiate(
                state.trainable, state.frozen, other, part, part_key
            )
            return (jax.tree.map(jnp.add, total, grads), other), metrics

        start = (jax.tree.map(jnp.zeros_like, state.trainable), state.other)
        (grads, other), metrics = jax.lax.scan(add, start, (parts, jnp.arange(accumulate)))
        mean = jax.tree.map(lambda x: x / accumulate, grads)
        return mean, (other, jax.tree.map(lambda x: x.mean(0), metrics))

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        if accumulate > 1:
            grads, (other, metrics) = accumulated(state, batch, key)
        else:
            grads, (other, metrics) = differentiate(
                state.trainable, state.frozen, state.other, batch, key
            )
        updates, opt_state = optimizer.update(grads, state.optimizer, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        ema = _average(state.ema, trainable, ema_decay, state.step) if state.ema else {}
        metrics["grad_norm"] = optax.global_norm(grads)
        new = TrainState(state.step + 1, trainable, state.frozen, other, opt_state, ema)
        return new, metrics

    return train_step


def _average(ema: Parameters, trainable: Parameters, decay: float, step: jax.Array) -> Parameters:
    """Moving average whose decay rises at first, so that it forgets the initial weights."""
    weight = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old * weight + new * (1 - weight), ema, trainable)


def compile_step(train_step: TrainStep, state: TrainState, mesh: Mesh, sharding: str) -> TrainStep:
    """Jit the step; it keeps the state's sharding and donates its buffers."""
    places = state_sharding(state, mesh, sharding)
    return jax.jit(
        train_step,
        in_shardings=(places, batch_sharding(mesh), None),
        out_shardings=(places, None),
        donate_argnums=0,
        compiler_options=training_options(),
    )


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether every number in a tree of arrays is finite."""
    leaves = [
        jnp.isfinite(x).all()
        for x in jax.tree.leaves(tree)
        if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    return jnp.stack(leaves).all()
