"""What the device does with a batch of crops, as one function to compile."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vitpose_jax.keypoints.decoding import (
    DecodeMethod,
    decode_heatmaps,
    flip_average,
    heatmap_to_image,
)
from vitpose_jax.keypoints.normalization import normalize_crops


def matrices_in(state: nnx.State, dtype: jnp.dtype) -> nnx.State:
    """The state with its matrices in the compute dtype: every use of them would cast them anyway.

    Vectors, and the positions, which are added up first, stay float32.
    """

    def cast(path: tuple, array: jax.Array) -> jax.Array:
        kept = array.ndim < 2 or "pos_embed" in jax.tree_util.keystr(path)
        return array if kept else array.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, state)


def predict_batch(
    graph: nnx.GraphDef,
    state: nnx.State,
    crops: jax.Array,
    center: jax.Array,
    scale: jax.Array,
    *,
    flip_index: np.ndarray | None,
    method: DecodeMethod,
    keep_heatmaps: bool,
) -> tuple[jax.Array, ...]:
    """Crops uint8 (B, H, W, 3) -> image keypoints (B, K, 2), scores (B, K), perhaps heatmaps.

    The crops are cut by the UDP affine, so points go back by it too, however they are decoded.
    """
    model = nnx.merge(graph, state)
    images = normalize_crops(crops)
    if flip_index is None:
        heatmaps = model(images)
    else:
        both = model(jnp.concatenate([images, images[:, :, ::-1]]))
        heatmaps = flip_average(*jnp.split(both, 2), flip_index)
    heatmap_xy, scores = decode_heatmaps(heatmaps, method)
    xy = heatmap_to_image(heatmap_xy, center, scale, heatmaps.shape[1:3])
    return (xy, scores, heatmaps) if keep_heatmaps else (xy, scores)
