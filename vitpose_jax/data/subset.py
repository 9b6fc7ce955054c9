"""A seeded share of a data set's training images."""

import random
from dataclasses import dataclass, replace

import numpy as np

from vitpose_jax.data.augmentation import Augmentation
from vitpose_jax.data.datasets import PoseDataset
from vitpose_jax.data.samples import Batch, PersonCrops
from vitpose_jax.data.synthetic.dataset import SceneCrops, SyntheticImages
from vitpose_jax.data.synthetic.scene import Scene
from vitpose_jax.errors import UserError

MAX_REMEMBERED_SCENES = 1000  # about a megabyte each


def choose_images(image_ids: np.ndarray, share: float, seed: int = 42) -> np.ndarray:
    """int(share x M) of M image ids, in the order drawn.

    The rule of the ViTPose-FPN study's generate_coco_split.py (`random.seed(42)`, `random.sample`
    over the annotation file's list of images), so on COCO train2017 a tenth is the same tenth.

    Raises:
        UserError: a share that is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise UserError(f"config.train_share is {share}; choose a share above 0, up to 1")
    count = max(1, int(len(image_ids) * share))
    chosen = random.Random(seed).sample(range(len(image_ids)), count)
    return image_ids[chosen]


class ImageSubset(PoseDataset):
    """The rows of a training split that lie on some of its images; everything else is as it was."""

    def __init__(self, whole: PoseDataset, image_ids: np.ndarray) -> None:
        vars(self).update(vars(whole))
        self._whole = whole
        self.rows = np.flatnonzero(np.isin(whole.image_id_of_rows, image_ids))
        if len(self.rows) == 0:
            raise UserError(f"{whole.name}: nobody is on the {len(image_ids)} images chosen")

    def __len__(self) -> int:
        return len(self.rows)

    def training_crops(self) -> "PersonCrops | _SomeScenes":
        """What makes training samples of the rows."""
        crops = self._whole.training_crops()
        if isinstance(crops, PersonCrops):
            return replace(crops, chosen=self.rows)
        if len(self.rows) <= MAX_REMEMBERED_SCENES:
            crops = replace(crops, images=RememberedScenes(self._whole.images))
        return _SomeScenes(crops, self.rows)


class RememberedScenes:
    """Synthetic images that are drawn once: of a few scenes, each is wanted every epoch."""

    def __init__(self, images: SyntheticImages) -> None:
        self._images = images
        self._scenes: dict[int, Scene] = {}

    def scene(self, index: int) -> Scene:
        """Scene `index`, drawn the first time."""
        if index not in self._scenes:
            self._scenes[index] = self._images.scene(index)
        return self._scenes[index]


@dataclass(frozen=True)
class _SomeScenes:
    crops: SceneCrops
    scenes: np.ndarray

    def training_batch(
        self, places: np.ndarray, numbers: np.ndarray, augmentation: Augmentation
    ) -> Batch:
        """Augmented crops of the scenes at `places` of those chosen."""
        return self.crops.training_batch(self.scenes[places], numbers, augmentation)
