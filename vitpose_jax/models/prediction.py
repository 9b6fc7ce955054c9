"""From a batch of crops to keypoints in image pixels: the one function that devices run.

Inference and evaluation compile it through `prediction_program`; what exports a model or measures
it uses the parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.stages import Wrapped
from jaxtyping import Array, Float, Float32

from vitpose_jax.keypoints.decoding import (
    DecodeMethod,
    decode_heatmaps,
    flip_average,
    heatmap_to_image,
)
from vitpose_jax.keypoints.normalization import normalize_crops
from vitpose_jax.models.backends import compiler_options
from vitpose_jax.models.pose import PoseModel


@dataclass(frozen=True)
class PredictionOptions:
    """How heatmaps are computed and decoded; hashable, as a static argument of the program.

    Attributes:
        flip_index: the keypoints' order in a mirrored crop, to average with its heatmaps, or None.
        method: how heatmaps are decoded.
        mirrored_apart: run the mirrored crops after the others instead of in one batch with them.
            One batch is faster for a few crops. Two take less memory and leave rows that are spread
            over devices where they are.
        keep_heatmaps: return the heatmaps too.
    """

    flip_index: tuple[int, ...] | None = None
    method: DecodeMethod = "udp"
    mirrored_apart: bool = False
    keep_heatmaps: bool = False


def predict_batch(
    graph: nnx.GraphDef[PoseModel],
    state: nnx.State,
    batch: Mapping[str, Array],
    options: PredictionOptions,
) -> tuple[Array, ...]:
    """Find the keypoints of a batch of crops that were cut by the UDP affine.

    Args:
        graph: the model's, from `nnx.split`.
        state: the model's; for speed from `cast_matrices`.
        batch: `crop` uint8 (B, H, W, 3), `center` and `scale` (B, 2) of the regions they show, and
            for a mixture of experts, unless the model's own data set decides, `dataset_index` (B,).
        options: how to predict.

    Returns:
        Image keypoints (B, K, 2) and scores (B, K), both float32, and where they are to be kept
        heatmaps (B, h, w, K).
    """
    model = nnx.merge(graph, state)
    experts = batch.get("dataset_index") if model.config.backbone.num_experts else None
    images = normalize_crops(batch["crop"], model.dtype)
    heatmaps = predict_heatmaps(model, images, options, experts)
    found = locate_keypoints(heatmaps, batch["center"], batch["scale"], options.method)
    return (*found, heatmaps) if options.keep_heatmaps else found


def predict_heatmaps(
    model: PoseModel,
    images: Float[Array, "batch height width 3"],
    options: PredictionOptions,
    dataset_index: Array | None = None,
) -> Float32[Array, "batch rows columns keypoints"]:
    """Compute the heatmaps of normalised crops, averaged with the mirrored ones' if asked for."""
    if options.flip_index is None:
        return model(images, dataset_index)
    mirrored, flip_index = images[:, :, ::-1], np.asarray(options.flip_index)
    if options.mirrored_apart:
        heatmaps = model(images, dataset_index)
        return flip_average(heatmaps, model(mirrored, dataset_index), flip_index)
    if dataset_index is not None and jnp.ndim(dataset_index):
        dataset_index = jnp.concatenate([dataset_index, dataset_index])
    upright, turned = jnp.split(model(jnp.concatenate([images, mirrored]), dataset_index), 2)
    return flip_average(upright, turned, flip_index)


def locate_keypoints(
    heatmaps: Float[Array, "batch rows columns keypoints"],
    center: Array,
    scale: Array,
    method: DecodeMethod,
) -> tuple[Float32[Array, "batch keypoints 2"], Float32[Array, "batch keypoints"]]:
    """Decode heatmaps to image pixels and scores.

    The crops were cut by the UDP affine, so points return by it whatever the method.
    """
    heatmap_xy, scores = decode_heatmaps(heatmaps, method)
    _, rows, columns, _ = heatmaps.shape
    return heatmap_to_image(heatmap_xy, center, scale, (rows, columns)), scores


def cast_matrices(state: nnx.State, dtype: jnp.dtype) -> nnx.State:
    """Cast matrices to the compute dtype once, as every use of them would.

    Vectors stay float32, and so does the position embedding, whose rows are added up first.
    """

    def cast(path: tuple, array: Array) -> Array:
        kept = array.ndim < 2 or "pos_embed" in jax.tree_util.keystr(path)
        return array if kept else array.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, state)


def prediction_program(dtype: jnp.dtype, images: int) -> Wrapped:
    """Return `predict_batch` under `jax.jit`, with the compiler options that suit a network.

    Args:
        dtype: what the network computes in.
        images: how many crops go through it at once.
    """
    return _compiled(tuple((compiler_options(dtype, images) or {}).items()))


@cache
def _compiled(options: tuple[tuple[str, str | bool], ...]) -> Wrapped:
    return jax.jit(
        predict_batch,
        static_argnames=("graph", "options"),
        compiler_options=dict(options) or None,
    )
