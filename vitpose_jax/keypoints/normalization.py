"""From uint8 crops to the network's input."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

IMAGE_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
"""ImageNet's mean (red, green, blue), for images in [0, 1]."""

IMAGE_STD = np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet's standard deviation (red, green, blue), for images in [0, 1]."""


def normalize_crops(
    crops: UInt8[Array | np.ndarray, "batch height width 3"], dtype: DTypeLike = jnp.float32
) -> Float[Array, "batch height width 3"]:
    """Normalise RGB crops by ImageNet's mean and standard deviation; computed in float32."""
    return ((jnp.asarray(crops, jnp.float32) / 255 - IMAGE_MEAN) / IMAGE_STD).astype(dtype)
