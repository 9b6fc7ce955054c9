"""The programs that are exported: functions of weights and inputs, with names for everything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.export import symbolic_shape

from vitpose_jax.keypoints.decoding import DecodeMethod
from vitpose_jax.keypoints.skeletons import Skeleton
from vitpose_jax.models.experts import with_one_expert
from vitpose_jax.models.forecaster import Forecaster
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.pose_predictor import PosePredictor
from vitpose_jax.models.prediction import PredictionOptions, cast_matrices, predict_batch


@dataclass(frozen=True)
class Program:
    """A function of weights and inputs.

    Attributes:
        function: `function(weights, *inputs)` gives a tuple of arrays.
        weights: parameters by their names.
        inputs: shapes and types by name; the first axis is the batch's.
        outputs: names of the results.
        batch: the symbol of the batch's size.
    """

    function: Callable[..., tuple[jax.Array, ...]]
    weights: Mapping[str, jax.Array]
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    outputs: tuple[str, ...]
    batch: Any


def pose_program(
    model: PoseModel, skeleton: Skeleton, flip_test: bool, method: DecodeMethod
) -> Program:
    """uint8 crops and their regions -> keypoints in image pixels, scores, heatmaps."""
    flip_index = tuple(map(int, skeleton.flip_index)) if flip_test else None
    options = PredictionOptions(flip_index, method, keep_heatmaps=True)
    graph, weights, restored = _parts(with_one_expert(model))
    batch, spec = _batch()
    height, width = model.config.input_size

    def function(weights: Any, crops: Any, center: Any, scale: Any) -> tuple[jax.Array, ...]:
        inputs = {"crop": crops, "center": center, "scale": scale}
        return predict_batch(graph, restored(weights), inputs, options)

    inputs = {
        "crops": spec((height, width, 3), jnp.uint8),
        "center": spec((2,), jnp.float32),
        "scale": spec((2,), jnp.float32),
    }
    return Program(function, weights, inputs, ("keypoints", "scores", "heatmaps"), batch)


def network_program(model: PoseModel) -> Program:
    """Normalised crops -> heatmaps."""
    graph, weights, restored = _parts(with_one_expert(model))
    batch, spec = _batch()

    def function(weights: Any, images: Any) -> tuple[jax.Array, ...]:
        return (nnx.merge(graph, restored(weights))(images),)

    inputs = {"images": spec((*model.config.input_size, 3), jnp.float32)}
    return Program(function, weights, inputs, ("heatmaps",), batch)


def forecast_program(model: Forecaster | PosePredictor) -> Program:
    """An observed motion and which joints were seen -> the future."""
    graph, weights, restored = _parts(model)
    batch, spec = _batch()
    config = model.config
    frames = (config.observed, config.num_joints)

    def function(weights: Any, observed: Any, visible: Any) -> tuple[jax.Array, ...]:
        return (nnx.merge(graph, restored(weights)).forecast(observed, visible),)

    inputs = {
        "observed": spec((*frames, config.dims), jnp.float32),
        "visible": spec(frames, jnp.bool_),
    }
    return Program(function, weights, inputs, ("future",), batch)


def _batch() -> tuple[Any, Callable[[tuple[int, ...], Any], jax.ShapeDtypeStruct]]:
    """A symbol, and what makes specifications of batches of its size."""
    (batch,) = symbolic_shape("batch")
    return batch, lambda shape, dtype: jax.ShapeDtypeStruct((batch, *shape), dtype)


def _parts(
    model: nnx.Module,
) -> tuple[nnx.GraphDef[Any], dict[str, jax.Array], Callable[[Mapping[str, Any]], nnx.State]]:
    """A model's structure, its weights by name, and what makes its state of such weights."""
    graph, state = nnx.split(model)
    if isinstance(model, PoseModel):
        state = cast_matrices(state, model.dtype)
    leaves, tree = jax.tree_util.tree_flatten_with_path(state)
    paths = (jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)
    names = [path.removesuffix(".value") for path in paths]
    weights = {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}
    return graph, weights, lambda given: jax.tree.unflatten(tree, [given[n] for n in names])
