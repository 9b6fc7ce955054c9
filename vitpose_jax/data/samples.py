"""From a person's row to the arrays a model takes: uint8 crop, keypoints on it, and where it lies.

The host decodes and warps; normalising and drawing target heatmaps is left to the device, so that
one byte per colour value crosses to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from vitpose_jax.data.augmentation import (
    Augmentation,
    Placement,
    crop_keypoints,
    draw_placement,
)
from vitpose_jax.data.images import BadImageCount
from vitpose_jax.data.people import BadImage, ImageSource, People
from vitpose_jax.keypoints.crops import box_to_center_scale, warp_crop
from vitpose_jax.keypoints.skeletons import Skeleton

Sample = Mapping[str, np.ndarray]
"""One person: crop uint8 (H, W, 3) RGB; crop_xy float32 (K, 2) crop pixels; visible float32 (K,);
center, scale float32 (2,) of the (mirrored) image; box float32 (4,) and box_score float32 () of the
original image; image_id, annotation_id int64 (); dataset_index int32 (). Evaluation adds valid
bool (): false on padding and where the image could not be read."""

_COMPOSE_ROW = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class PersonCrops:
    """Makes samples of a table of people and their images.

    Attributes:
        people: the table.
        images: where the pictures come from.
        skeleton: what is annotated.
        input_size: (height, width) of the crops.
        bad_images: where unreadable images are counted.
        dataset_index: which expert of a mixture-of-experts model the people belong to.
    """

    people: People
    images: ImageSource
    skeleton: Skeleton
    input_size: tuple[int, int]
    bad_images: BadImageCount
    dataset_index: int = 0

    def training_sample(
        self, row: int, rng: np.random.Generator, augmentation: Augmentation
    ) -> Sample:
        """An augmented sample of person `row`.

        A person whose image cannot be read is replaced by the next one in the table, so the result
        depends on nothing but the files, the row and `rng`.

        Raises:
            UserError: too many images are unreadable.
        """
        people = self.people
        while True:
            width = int(people.image_wh[row, 0])
            placement = draw_placement(
                augmentation,
                people.box[row],
                people.keypoints[row],
                people.visible[row],
                width,
                self.input_size,
                self.skeleton,
                rng,
            )
            try:
                return self._sample(row, placement)
            except BadImage as error:
                self.bad_images.add(str(error))
                row = (row + 1) % len(people)

    def evaluation_sample(self, row: int) -> Sample:
        """The sample of person `row` as it is; row -1 gives padding.

        A person whose image cannot be read gets a black crop with `valid` false: no prediction is
        made, and the annotation counts as missed.

        Raises:
            UserError: too many images are unreadable.
        """
        placement = Placement(*box_to_center_scale(self.people.box[row], self.input_size))
        try:
            if row < 0:
                return {**self._describe(row, placement), "valid": np.bool_(False)}
            return {**self._sample(row, placement, exact=True), "valid": np.bool_(True)}
        except BadImage as error:
            self.bad_images.add(str(error))
            return {**self._describe(row, placement), "valid": np.bool_(False)}

    def _sample(self, row: int, placement: Placement, exact: bool = False) -> Sample:
        """The sample at a placement; `exact` refuses images decoded at reduced resolution."""
        people = self.people
        matrix, crop_xy, visible = crop_keypoints(
            placement,
            people.keypoints[row],
            people.visible[row],
            int(people.image_wh[row, 0]),
            self.input_size,
            self.skeleton,
        )
        shrink = 1.0 if exact else 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
        picture = self.images.load(people, row, shrink)
        if picture.from_image is not None:
            to_image = cv2.invertAffineTransform(picture.from_image)
            matrix = matrix @ np.vstack([to_image, _COMPOSE_ROW])
        crop = warp_crop(picture.pixels, matrix, self.input_size)
        crop = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB, dst=crop)
        described = self._describe(row, placement)
        return {**described, "crop": crop, "crop_xy": crop_xy, "visible": visible}

    def _describe(self, row: int, placement: Placement) -> Sample:
        """Everything but the pixels, which are black, and the keypoints, which are unlabelled."""
        people, num_keypoints = self.people, self.skeleton.num_keypoints
        return {
            "crop": np.zeros((*self.input_size, 3), np.uint8),
            "crop_xy": np.zeros((num_keypoints, 2), np.float32),
            "visible": np.zeros(num_keypoints, np.float32),
            "center": placement.center,
            "scale": placement.scale,
            "box": people.box[row],
            "box_score": people.box_score[row],
            "image_id": people.image_id[row],
            "annotation_id": people.annotation_id[row],
            "dataset_index": np.int32(self.dataset_index),
        }
