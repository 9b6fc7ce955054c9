"""From rows of people to the arrays a model takes: uint8 crops, and the keypoints on them.

The host decodes and warps; the device normalises and draws target heatmaps, so that only one byte
per colour value is transferred. Geometry is computed for a whole batch at once, and pixels are
written straight into the batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vitpose_jax.data.augmentation import (
    Augmentation,
    CropGeometry,
    Placements,
    draw_placements,
    place_keypoints,
    unaugmented,
)
from vitpose_jax.data.people import BadImage, ImageSource, People
from vitpose_jax.data.tolerance import BadImageCount
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import Skeleton
from vitpose_jax.keypoints.warping import warp_crop

Batch = Mapping[str, np.ndarray]
"""B people: crop uint8 (B, H, W, 3) RGB; crop_xy float32 (B, K, 2) crop pixels; visible float32
(B, K); center, scale float32 (B, 2) in the (mirrored) original image; box float32 (B, 4) and
box_score float32 (B,) in the original image; image_id, annotation_id int64 (B,); dataset_index
int32 (B,). Evaluation adds valid bool (B,), false on padding and where an image is unreadable."""


@dataclass(frozen=True)
class PersonCrops:
    """Makes batches from a table of people and their images.

    Attributes:
        people: the table.
        images: where the pictures come from.
        skeleton: what is annotated.
        input_size: (height, width) of the crops.
        bad_images: where unreadable images are counted.
        dataset_index: the expert of a mixture-of-experts model that the people belong to.
        chosen: rows to train on; None for all.
    """

    people: People
    images: ImageSource
    skeleton: Skeleton
    input_size: tuple[int, int]
    bad_images: BadImageCount
    dataset_index: int = 0
    chosen: np.ndarray | None = None

    def training_batch(
        self, places: np.ndarray, numbers: np.ndarray, augmentation: Augmentation
    ) -> Batch:
        """Augmented crops of the people at `places` (B,) among those to train on.

        A person whose image cannot be read is replaced by the next one, so that the result depends
        only on the files, the places and the random numbers (B, 10).

        Raises:
            UserError: too many images are unreadable.
        """
        chosen = np.arange(len(self.people)) if self.chosen is None else self.chosen
        rows = chosen[places]
        crops = self._black(len(rows))
        placements, geometry = self._place(rows, numbers, augmentation)
        for i, place in enumerate(places):
            tries = 1
            while not self._read(rows[i], geometry.matrix[i], crops[i]):
                if tries == len(chosen):
                    raise UserError(
                        f"no image of the {len(chosen)} people to train on can be read; repair or "
                        "replace the files that the warnings name"
                    )
                rows[i] = chosen[(place + tries) % len(chosen)]
                tries += 1
                other = self._place(rows[i : i + 1], numbers[i : i + 1], augmentation)
                for mine, theirs in zip((placements, geometry), other, strict=True):
                    for name, column in vars(mine).items():
                        column[i] = vars(theirs)[name][0]
        return self._batch(rows, crops, placements, geometry)

    def evaluation_batch(self, rows: np.ndarray) -> Batch:
        """Crops of the people at `rows` (B,), not augmented; row -1 gives padding.

        A person whose image cannot be read gets a black crop with `valid` false, and so counts as
        missed.

        Raises:
            UserError: too many images are unreadable.
        """
        people = self.people.take(rows)
        crops = self._black(len(rows))
        placements = unaugmented(people.box, self.input_size)
        geometry = place_keypoints(placements, people, self.input_size, self.skeleton)
        valid = np.array(
            [
                row >= 0 and self._read(row, geometry.matrix[i], crops[i], exact=True)
                for i, row in enumerate(rows)
            ]
        )
        geometry.visible[~valid] = 0
        return {**self._batch(rows, crops, placements, geometry), "valid": valid}

    def _black(self, count: int) -> np.ndarray:
        return np.zeros((count, *self.input_size, 3), np.uint8)

    def _place(
        self, rows: np.ndarray, numbers: np.ndarray, augmentation: Augmentation
    ) -> tuple[Placements, CropGeometry]:
        people = self.people.take(rows)
        placements = draw_placements(augmentation, numbers, people, self.input_size, self.skeleton)
        return placements, place_keypoints(placements, people, self.input_size, self.skeleton)

    def _read(self, row: int, matrix: np.ndarray, crop: np.ndarray, exact: bool = False) -> bool:
        """Fill `crop` with a person's pixels; count an unreadable image, and return False.

        `exact` rules out decoding at a reduced resolution.
        """
        (a, b, _), (c, d, _) = matrix.tolist()
        shrink = 1.0 if exact else abs(a * d - b * c) ** -0.5
        try:
            picture = self.images.load(self.people, int(row), shrink)
        except BadImage as error:
            self.bad_images.add(str(error))
            return False
        if picture.from_image is not None:
            matrix = _after(matrix, picture.from_image)
        warp_crop(picture.pixels, matrix, crop)
        return True

    def _batch(
        self, rows: np.ndarray, crops: np.ndarray, placements: Placements, geometry: CropGeometry
    ) -> Batch:
        people = self.people
        return {
            "crop": crops,
            "crop_xy": geometry.crop_xy,
            "visible": geometry.visible,
            "center": placements.center,
            "scale": placements.scale,
            "box": people.box[rows],
            "box_score": people.box_score[rows],
            "image_id": people.image_id[rows],
            "annotation_id": people.annotation_id[rows],
            "dataset_index": np.full(len(rows), self.dataset_index, np.int32),
        }


def _after(matrix: np.ndarray, from_image: np.ndarray) -> np.ndarray:
    """The map image -> crop, as a map from the stored part; `from_image` has no rotation."""
    (a, b, tx), (c, d, ty) = matrix.tolist()
    (sx, _, ox), (_, sy, oy) = from_image.tolist()
    a, b, c, d = a / sx, b / sy, c / sx, d / sy
    return np.array([[a, b, tx - a * ox - b * oy], [c, d, ty - c * ox - d * oy]])
