"""A pose data set: people with keypoints, and the images they are on."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np

from vitpose_jax.data.augmentation import Augmentation
from vitpose_jax.data.findings import Report
from vitpose_jax.data.people import ImageSource, People
from vitpose_jax.data.samples import Batch, PersonCrops
from vitpose_jax.data.tolerance import MAX_BAD_SHARE, BadImageCount
from vitpose_jax.errors import UserError
from vitpose_jax.files.fingerprint import Fingerprint, digest
from vitpose_jax.keypoints.skeletons import Skeleton


class TrainingCrops(Protocol):
    """Makes training batches; must be picklable and safe to use from several threads."""

    def training_batch(
        self, places: np.ndarray, numbers: np.ndarray, augmentation: Augmentation
    ) -> Batch:
        """Augmented crops of the samples at `places` (B,).

        Args:
            places: positions among the samples that are trained on.
            numbers: (B, 10), each sample's random numbers, from `draw_numbers`.
            augmentation: ranges and probabilities.
        """
        ...


@dataclass
class PoseDataset:
    """A split of a pose data set; its length is the number of training samples.

    Attributes:
        name: the source as it was given.
        split: "train" or "val".
        skeleton: what is annotated.
        input_size: (height, width) of the crops.
        load_people: returns the table of people.
        images: where the pictures come from.
        image_ids: int64 (M,), ids of all images, including those without people.
        load_image_wh: returns int32 (M, 2), their sizes.
        load_coco: returns the annotations as a COCO dict.
        max_bad_share: the largest share of images that may be unreadable.
        dataset_index: the expert of a mixture-of-experts model that the people belong to.
        has_whole_images: whether crops can be taken anywhere on the images; records hold only the
            surroundings of annotated boxes.
        chosen: rows to train on; None for all.
        file_names: of all images; empty if they are not files.
        sources: the files that the people were read from.
        divided: false for data that are not divided into train and val.
        categories: names of the people's categories.
        report: what was found in the files; None if none were read.
    """

    name: str
    split: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    load_people: Callable[[], People] = field(repr=False)
    images: ImageSource
    image_ids: np.ndarray = field(repr=False)
    load_image_wh: Callable[[], np.ndarray] = field(repr=False)
    load_coco: Callable[[], dict[str, Any]] = field(repr=False)
    max_bad_share: float = MAX_BAD_SHARE
    dataset_index: int = 0
    has_whole_images: bool = True
    chosen: np.ndarray | None = field(default=None, repr=False)
    file_names: Sequence[str] = field(default=(), repr=False)
    sources: tuple[str, ...] = field(default=(), repr=False)
    divided: bool = True
    categories: tuple[str, ...] = ()
    report: Report | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.image_id_of_rows if self.chosen is None else self.chosen)

    @cached_property
    def people(self) -> People:
        """All people, one row each."""
        return self.load_people()

    @cached_property
    def coco_gt(self) -> dict[str, Any]:
        """The annotations as a COCO dict, to evaluate against."""
        return self.load_coco()

    @property
    def image_id_of_rows(self) -> np.ndarray:
        """int64 (rows,), the image id of each training sample, before `chosen` applies."""
        return self.people.image_id

    @cached_property
    def bad_images(self) -> BadImageCount:
        """The count of images that this process could not read so far."""
        return BadImageCount(len(self.image_ids), self.max_bad_share)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Identifies the people and the files they are on; pixels are not read."""
        names = (self.skeleton.keypoint_names, self.file_names)
        return Fingerprint(len(self), digest([*names, *self.people.columns().values()]))

    def crops(self) -> PersonCrops:
        """The maker of batches of people, for training and evaluation."""
        return PersonCrops(
            self.people,
            self.images,
            self.skeleton,
            self.input_size,
            self.bad_images,
            self.dataset_index,
            self.chosen,
        )

    def training_crops(self) -> TrainingCrops:
        """The maker of training batches."""
        return self.crops()

    def on_images(self, image_ids: np.ndarray) -> Self:
        """The same data set, with training limited to the samples on some of its images.

        Raises:
            UserError: nobody is on these images.
        """
        rows = np.flatnonzero(np.isin(self.image_id_of_rows, image_ids))
        if len(rows) == 0:
            raise UserError(f"{self.name}: nobody is on the {len(image_ids)} images chosen")
        return replace(self, chosen=rows)


def choose_images(image_ids: np.ndarray, share: float, seed: int = 42) -> np.ndarray:
    """Choose int(share x M) of M image ids at random, at least one, in the order drawn.

    The rule is that of the ViTPose-FPN study's generate_coco_split.py (`random.seed(42)`,
    `random.sample` over the annotation file's images), so a tenth of COCO train2017 is the study's
    tenth.

    Raises:
        UserError: the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise UserError(f"config.train_share is {share}; choose a share above 0, up to 1")
    count = max(1, int(len(image_ids) * share))
    return image_ids[random.Random(seed).sample(range(len(image_ids)), count)]
