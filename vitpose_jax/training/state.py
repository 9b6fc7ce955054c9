"""The training state, and splitting an NNX module into it.

The module is split once into a static graph and flat dictionaries of arrays by dotted name; all
later functions of these are pure.
"""

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from vitpose_jax.training.optimizer import ParameterLabel, Parameters

Model = TypeVar("Model", bound=nnx.Module)


class TrainState(NamedTuple):
    """Everything that an update changes, plus the frozen parameters.

    Attributes:
        step: steps taken.
        trainable: the parameters with gradients and optimiser state.
        frozen: the other parameters.
        other: batch statistics and the like.
        optimizer: the optimiser's state.
        ema: a moving average of `trainable`, or empty.
    """

    step: jax.Array
    trainable: Parameters
    frozen: Parameters
    other: Parameters
    optimizer: optax.OptState
    ema: Parameters


class ModelGraph(NamedTuple, Generic[Model]):
    """A module without its arrays.

    Attributes:
        definition: the graph, from `nnx.split`.
        paths: each array's path in the state by its dotted name.
    """

    definition: nnx.GraphDef[Model]
    paths: dict[str, tuple[Any, ...]]


def split_model(model: Model) -> tuple[ModelGraph[Model], Parameters, Parameters]:
    """Return (graph, parameters, other variables), the latter two by dotted name."""
    definition, state = nnx.split(model)
    parameters: Parameters = {}
    other: Parameters = {}
    paths = {}
    for path, variable in nnx.to_flat_state(state):
        name = ".".join(map(str, path))
        paths[name] = path
        (parameters if isinstance(variable, nnx.Param) else other)[name] = variable.get_value()
    return ModelGraph(definition, paths), parameters, other


def merge_model(graph: ModelGraph[Model], *arrays: Parameters) -> Model:
    """Rebuild a module from dictionaries that together hold all its arrays; later ones win."""
    nested: dict[Any, Any] = {}
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
    optimizer: optax.GradientTransformation,
    ema: bool,
) -> TrainState:
    """Return the state before the first step, with a moving average if `ema`."""
    trainable = {name: value for name, value in parameters.items() if labels[name].trainable}
    frozen = {name: value for name, value in parameters.items() if not labels[name].trainable}
    average = {name: jnp.copy(value) for name, value in trainable.items()} if ema else {}
    return TrainState(
        jnp.zeros((), jnp.int32), trainable, frozen, other, optimizer.init(trainable), average
    )
