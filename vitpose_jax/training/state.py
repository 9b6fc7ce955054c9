"""The training state, and the NNX module taken apart into it.

The module is split once into a static graph and flat dictionaries of arrays by dotted name; from
then on everything is a pure function of these.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from vitpose_jax.training.optimizer import ParameterLabel, Parameters


class TrainState(NamedTuple):
    """Everything an update changes (and the frozen parameters, which it does not).

    trainable, frozen: parameters. other: batch statistics and the like. ema: a moving average of
    `trainable`, or empty. Only `trainable` has gradients and optimiser state.
    """

    step: jax.Array
    trainable: Parameters
    frozen: Parameters
    other: Parameters
    optimizer: optax.OptState
    ema: Parameters


class ModelGraph(NamedTuple):
    """What of a module is not arrays."""

    definition: nnx.GraphDef
    paths: dict[str, tuple]


def split_model(model: nnx.Module) -> tuple[ModelGraph, Parameters, Parameters]:
    """(graph, parameters, other variables), the latter two by dotted name."""
    definition, state = nnx.split(model)
    parameters, other, paths = {}, {}, {}
    for path, variable in nnx.to_flat_state(state):
        name = ".".join(map(str, path))
        paths[name] = path
        (parameters if isinstance(variable, nnx.Param) else other)[name] = variable.get_value()
    return ModelGraph(definition, paths), parameters, other


def merge_model(graph: ModelGraph, *arrays: Parameters) -> nnx.Module:
    """The module again; together the dictionaries hold all its arrays."""
    nested: dict = {}
    for name, value in {k: v for part in arrays for k, v in part.items()}.items():
        *parents, last = graph.paths[name]
        here = nested
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = value
    return nnx.merge(graph.definition, nested)


def create_state(
    parameters: Parameters,
    other: Parameters,
    labels: Mapping[str, ParameterLabel],
    optimizer: Callable[..., optax.GradientTransformation] | optax.GradientTransformation,
    ema: bool,
) -> TrainState:
    """The state before the first step."""
    trainable = {name: value for name, value in parameters.items() if labels[name].trainable}
    frozen = {name: value for name, value in parameters.items() if not labels[name].trainable}
    average = {name: jnp.copy(value) for name, value in trainable.items()} if ema else {}
    return TrainState(
        jnp.zeros((), jnp.int32), trainable, frozen, other, optimizer.init(trainable), average
    )
