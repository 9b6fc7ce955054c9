"""One update of the training state: a pure function, compiled once."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from vitpose_jax.models.backends import training_options
from vitpose_jax.training.sharding import batch_sharding, state_sharding
from vitpose_jax.training.state import ModelGraph, TrainState, merge_model, split_model

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
LossFunction = Callable[[nnx.Module, Batch, jax.Array], tuple[jax.Array, Metrics]]


def make_train_step(
    graph: ModelGraph,
    loss_fn: LossFunction,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """(state, batch, key) -> (state, metrics).

    The key of the run is folded with the step, so a step can be replayed. With accumulate n the
    batch is taken in n parts, one after another, whose gradients are averaged; batch norm then sees
    a part at a time, as in PyTorch. Metrics hold `loss`, `grad_norm` (before clipping) and what
    the loss function adds, all float32 scalars.
    """

    def loss_of(trainable, frozen, other, batch, key):
        model = merge_model(graph, trainable, frozen, other)
        loss, metrics = loss_fn(model, batch, key)
        _, _, other = split_model(model)
        return loss, (other, {"loss": loss, **metrics})

    def gradients(state: TrainState, other, batch: Batch, key: jax.Array):
        differentiate = jax.grad(loss_of, has_aux=True)
        return differentiate(state.trainable, state.frozen, other, batch, key)

    def accumulated(state: TrainState, batch: Batch, key: jax.Array):
        # Neighbouring rows go to different parts, so that each part is spread over all devices.
        parts = jax.tree.map(
            lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
        )

        def add(carry, part_and_index):
            total, other = carry
            part, index = part_and_index
            grads, (other, metrics) = gradients(state, other, part, jax.random.fold_in(key, index))
            return (jax.tree.map(jnp.add, total, grads), other), metrics

        zeros = jax.tree.map(jnp.zeros_like, state.trainable)
        start = (zeros, state.other)
        (grads, other), metrics = jax.lax.scan(add, start, (parts, jnp.arange(accumulate)))
        mean = jax.tree.map(lambda x: x / accumulate, grads)
        return mean, (other, jax.tree.map(lambda x: x.mean(0), metrics))

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        if accumulate > 1:
            grads, (other, metrics) = accumulated(state, batch, key)
        else:
            grads, (other, metrics) = gradients(state, state.other, batch, key)
        updates, opt_state = optimizer.update(grads, state.optimizer, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        ema = _average(state.ema, trainable, ema_decay, state.step) if state.ema else {}
        metrics["grad_norm"] = optax.global_norm(grads)
        new = TrainState(state.step + 1, trainable, state.frozen, other, opt_state, ema)
        return new, metrics

    return train_step


def _average(ema, trainable, decay: float, step: jax.Array):
    """Moving average whose memory grows with the run, so that it forgets the start."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old * decay + new * (1 - decay), ema, trainable)


def compile_step(train_step: Callable, state: TrainState, mesh: Mesh, sharding: str) -> Callable:
    """jit with the state's sharding kept from step to step and its buffers given away."""
    places = state_sharding(state, mesh, sharding)
    return jax.jit(
        train_step,
        in_shardings=(places, batch_sharding(mesh), None),
        out_shardings=(places, None),
        donate_argnums=0,
        compiler_options=training_options(),
    )


@jax.jit
def all_finite(tree) -> jax.Array:
    """Whether every number of a tree of arrays is finite."""
    leaves = [
        jnp.isfinite(x).all()
        for x in jax.tree.leaves(tree)
        if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    return jnp.stack(leaves).all()
