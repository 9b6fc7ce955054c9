"""Synthetic people as a pose data set: nothing on disk, each image a function of its index."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from vitpose_jax.data.augmentation import Augmentation, person_number
from vitpose_jax.data.coco.categories import category_from_skeleton
from vitpose_jax.data.dataset import PoseDataset, TrainingCrops
from vitpose_jax.data.people import People, Picture, concatenate
from vitpose_jax.data.samples import Batch, PersonCrops
from vitpose_jax.data.synthetic.scene import Scene, render_scene
from vitpose_jax.data.tolerance import BadImageCount
from vitpose_jax.files.fingerprint import Fingerprint
from vitpose_jax.keypoints.skeletons import SKELETONS

SYNTHETIC = {"synthetic": "some", "synthetic-crowd": "crowd", "synthetic-solo": "solo"}
"""Names of the data sets, and the `company` of their scenes (see `render_scene`)."""

NUM_SCENES = {"train": 50_000, "val": 300}
MAX_REMEMBERED_SCENES = 1000  # about a megabyte each

_STREAMS = {"train": 1, "val": 2}
_COCO = SKELETONS["coco"]


@lru_cache(maxsize=32)
def synthetic_scene(split: str, index: int, company: str = "some") -> Scene:
    """Render scene `index` of a split; each split has its own random stream."""
    rng = np.random.default_rng([_STREAMS[split], list(SYNTHETIC.values()).index(company), index])
    return render_scene(rng, company)


def open_synthetic(name: str, split: str, input_size: tuple[int, int]) -> "SyntheticPeople":
    """Open a data set named in `SYNTHETIC`."""
    images = SyntheticImages(split, SYNTHETIC[name])
    return SyntheticPeople(
        name=name,
        split=split,
        skeleton=_COCO,
        input_size=input_size,
        load_people=lambda: concatenate(
            [people_of_scene(scene, index) for index, scene in enumerate(images.scenes())]
        ),
        images=images,
        image_ids=np.arange(NUM_SCENES[split], dtype=np.int64),
        load_image_wh=lambda: np.array(
            [scene.pixels.shape[1::-1] for scene in images.scenes()], np.int32
        ),
        load_coco=lambda: coco_annotations(images.scenes()),
    )


@dataclass(frozen=True)
class SyntheticImages:
    """The scenes of a split, by index.

    Attributes:
        split: "train" or "val".
        company: see `render_scene`.
        kept: the scenes rendered so far; None to keep none.
    """

    split: str
    company: str
    kept: dict[int, Scene] | None = field(default=None, repr=False)

    def scene(self, index: int) -> Scene:
        """Scene `index`, rendered now or earlier."""
        if self.kept is None:
            return synthetic_scene(self.split, index, self.company)
        if index not in self.kept:
            self.kept[index] = synthetic_scene(self.split, index, self.company)
        return self.kept[index]

    def scenes(self) -> Iterator[Scene]:
        """All scenes, in order."""
        return map(self.scene, range(NUM_SCENES[self.split]))

    def load(self, people: People, row: int, shrink: float) -> Picture:
        """See `ImageSource.load`."""
        return Picture(self.scene(int(people.image_row[row])).pixels)


@dataclass
class SyntheticPeople(PoseDataset):
    """Rendered people.

    In the train split, a sample is a random person of a scene, so that no table of all people is
    needed. In the validation split, it is a row of that table, as in every data set.
    """

    images: SyntheticImages

    @property
    def image_id_of_rows(self) -> np.ndarray:
        """See `PoseDataset.image_id_of_rows`."""
        return self.image_ids if self.split == "train" else self.people.image_id

    @property
    def fingerprint(self) -> Fingerprint:
        """See `PoseDataset.fingerprint`; only this code can change the people."""
        return Fingerprint(len(self), self.name)

    def training_crops(self) -> TrainingCrops:
        """See `PoseDataset.training_crops`."""
        if self.split != "train":
            return super().training_crops()
        images, scenes = self.images, self.image_ids
        if self.chosen is not None:
            scenes = self.chosen
            if len(scenes) <= MAX_REMEMBERED_SCENES:
                images = replace(images, kept={})
        return SceneCrops(images, scenes, self.input_size, self.dataset_index)


@dataclass(frozen=True)
class SceneCrops:
    """Makes training batches from some scenes: one of the annotated people of each."""

    images: SyntheticImages
    scenes: np.ndarray
    input_size: tuple[int, int]
    dataset_index: int

    def training_batch(
        self, places: np.ndarray, numbers: np.ndarray, augmentation: Augmentation
    ) -> Batch:
        """See `TrainingCrops.training_batch`."""
        indices = self.scenes[places].tolist()
        scenes = [self.images.scene(index) for index in indices]
        tables = []
        for scene, index, drawn in zip(scenes, indices, numbers, strict=True):
            people = people_of_scene(scene, index)
            tables.append(people.take(np.array([int(person_number(drawn) * len(people))])))
        crops = PersonCrops(
            concatenate(tables),
            _RenderedImages(scenes),
            _COCO,
            self.input_size,
            BadImageCount(1, 1),
            self.dataset_index,
        )
        return crops.training_batch(np.arange(len(scenes)), numbers, augmentation)


@dataclass(frozen=True)
class _RenderedImages:
    scenes: list[Scene]

    def load(self, people: People, row: int, shrink: float) -> Picture:
        return Picture(self.scenes[row].pixels)


def people_of_scene(scene: Scene, index: int) -> People:
    """The annotated people of scene `index` as a table; ids are 100 x scene + person."""
    persons = np.flatnonzero(scene.annotated)
    people = People.empty(len(persons), _COCO.num_keypoints)
    people.image_row[:] = people.image_id[:] = index
    people.image_wh[:] = scene.pixels.shape[1::-1]
    people.annotation_id[:] = 100 * index + persons + 1
    people.box[:] = scene.boxes[persons]
    people.keypoints[:] = scene.keypoints[persons]
    people.visible[:] = scene.visible[persons]
    return people


def coco_annotations(scenes: Iterable[Scene]) -> dict[str, Any]:
    """Scenes as a COCO dict; as in COCO, barely visible people have no keypoints."""
    entries, annotations = [], []
    for index, scene in enumerate(scenes):
        height, width = scene.pixels.shape[:2]
        name = f"{index:012d}.jpg"
        entries.append({"id": index, "file_name": name, "width": width, "height": height})
        for person, labelled in enumerate(scene.annotated):
            if scene.areas[person] == 0:
                continue
            visible = scene.visible[person] * labelled
            points = np.column_stack([scene.keypoints[person] * (visible[:, None] > 0), visible])
            annotations.append(
                {
                    "id": 100 * index + person + 1,
                    "image_id": index,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": scene.boxes[person].tolist(),
                    "area": float(scene.areas[person]),
                    "num_keypoints": int(np.count_nonzero(visible)),
                    "keypoints": points.ravel().tolist(),
                }
            )
    return {
        "info": {"description": "synthetic people"},
        "images": entries,
        "annotations": annotations,
        "categories": [category_from_skeleton(_COCO)],
    }
