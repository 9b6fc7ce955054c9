"""What a `PoseEstimator` runs people through."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from vitpose_jax.keypoints.skeletons import Skeleton


class Network(Protocol):
    """From batches of crops to keypoints in pixels of the images.

    Attributes:
        skeleton: names and limbs of the keypoints.
        input_size, heatmap_size: (height, width) of the crops and of the heatmaps.
        batch_size: people per batch that suit the device.
        keep_heatmaps: whether `run` returns heatmaps.
        description: the device and the compute type, for messages.
    """

    skeleton: Skeleton
    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    batch_size: int
    keep_heatmaps: bool
    description: str

    def rows(self, waiting: int, full: int) -> int:
        """How many people to run at once when `waiting` of them, fewer than `full`, are left.

        If it is more than `waiting`, the batch is padded; if it is less, the others come next.
        """
        ...

    def digest(self) -> str:
        """A digest of the weights."""
        ...

    def compile(self, size: int) -> None:
        """Compile what runs `size` people, if there is anything to compile."""
        ...

    def run(
        self,
        crops: UInt8[np.ndarray, "batch height width 3"],
        center: Float[np.ndarray, "batch 2"],
        scale: Float[np.ndarray, "batch 2"],
    ) -> tuple[Any, ...]:
        """Keypoints (B, K, 2), scores (B, K) and, if kept, heatmaps (B, h, w, K); float32.

        The arrays may still be being computed; `np.asarray` waits for them.

        Args:
            crops: uint8 RGB.
            center, scale: the regions that they show, see `box_to_center_scale`.
        """
        ...
