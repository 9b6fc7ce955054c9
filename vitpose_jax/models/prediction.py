"""From a batch of crops to keypoints in image pixels: the function that runs on the device."""

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
    """How heatmaps are computed and decoded.

    Attributes:
        flip_index: the keypoints' order in mirrored crops, to average with their heatmaps, or None.
        method: how heatmaps are decoded.
        mirrored_apart: run mirrored crops as a second batch. Two batches take less memory and keep
            rows on their devices if they are sharded; for a few crops one batch is faster.
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
    """Find the keypoints of a batch of crops that were cut with the UDP affine.

    Args:
        graph, state: the model, from `nnx.split`; preferably after `cast_matrices`.
        batch: `crop` uint8 (B, H, W, 3), `center` and `scale` (B, 2) of the regions they show, and
            for a mixture of experts, optionally `dataset_index` (B,) instead of its own data set.
        options: static, like `graph`.

    Returns:
        Image keypoints (B, K, 2), scores (B, K) and, if kept, heatmaps (B, h, w, K); float32.
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
    """Compute heatmaps of normalised crops, averaged with those of mirrored crops if requested."""
    if options.flip_index is None:
        return model(images, dataset_index)
    mirrored, flip_index = images[:, :, ::-1], np.asarray(options.flip_index)
    if options.mirrored_apart:
        heatmaps = model(images, dataset_index)
        return flip_average(heatmaps, model(mirrored, dataset_index), flip_index)
    if dataset_index is not None:
        dataset_index = jnp.concatenate([dataset_index, dataset_index])
    upright, turned = jnp.split(model(jnp.concatenate([images, mirrored]), dataset_index), 2)
    return flip_average(upright, turned, flip_index)


def locate_keypoints(
    heatmaps: Float[Array, "batch rows columns keypoints"],
    center: Float[Array, "batch 2"],
    scale: Float[Array, "batch 2"],
    method: DecodeMethod,
) -> tuple[Float32[Array, "batch keypoints 2"], Float32[Array, "batch keypoints"]]:
    """Decode heatmaps to image pixels (with the UDP affine for all methods), and scores."""
    heatmap_xy, scores = decode_heatmaps(heatmaps, method)
    _, rows, columns, _ = heatmaps.shape
    return heatmap_to_image(heatmap_xy, center, scale, (rows, columns)), scores


def cast_matrices(state: nnx.State, dtype: jnp.dtype) -> nnx.State:
    """Cast matrices to the compute dtype once, instead of at every use.

    Vectors stay float32, and so does the position embedding, whose rows are added before casting.
    """

    def cast(path: tuple, array: Array) -> Array:
        kept = array.ndim < 2 or "pos_embed" in jax.tree_util.keystr(path)
        return array if kept else array.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, state)


def prediction_program(dtype: jnp.dtype, images: int) -> Wrapped:
    """Jit `predict_batch` with the compiler options for `images` at once, computed in `dtype`."""
    return _compiled(tuple((compiler_options(dtype, images) or {}).items()))


@cache
def _compiled(options: tuple[tuple[str, str | bool], ...]) -> Wrapped:
    return jax.jit(
        predict_batch,
        static_argnames=("graph", "options"),
        compiler_options=dict(options) or None,
    )
