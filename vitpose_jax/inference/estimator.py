"""From images and boxes to poses: a network fed with full batches of people.

Threads on the host read images and crop people while the device works on the previous batch. This
module needs no JAX: the network may be a model (`model_network`) or an exported file.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from vitpose_jax.data.coco.skeleton_file import read_skeleton
from vitpose_jax.errors import UserError, short_errors
from vitpose_jax.files.pictures import ImageLike, Pixels
from vitpose_jax.inference.artefact import is_exported, read_artefact
from vitpose_jax.inference.batching import Batches
from vitpose_jax.inference.finding import open_finder
from vitpose_jax.inference.network import Network
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.preparation import BoxSource, Item, prepare_ahead
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton
from vitpose_jax.weights.zoo import DEFAULT_POSE_MODEL

if TYPE_CHECKING:
    from jax.typing import DTypeLike

    from vitpose_jax.keypoints.decoding import DecodeMethod
    from vitpose_jax.models.pose import PoseModel

BATCHES_WAITING = 4
"""After how many batches' worth of images an incomplete batch is run."""
WAITING_BYTES = 2**27
"""After how many bytes of images an incomplete batch is run."""


@dataclass(frozen=True)
class Prediction:
    """The people of one image.

    Attributes:
        people: one per box, in the boxes' order.
        image_wh: (width, height) of the upright image; (0, 0) if it could not be used.
        image: None if it could not be used or was not kept.
        problem: what is wrong with the image, if it could be used all the same.
        error: why the image could not be used.
        batch_ends: whether the people of later images are in other batches than those of this and
            earlier images.
    """

    people: list[Person]
    image_wh: tuple[int, int] = (0, 0)
    image: Pixels | None = None
    problem: str | None = None
    error: UserError | None = None
    batch_ends: bool = False


class PoseEstimator:
    """Finds people in images, and their keypoints.

    Attributes:
        network: what finds them: a `ModelNetwork`, or an exported file.
        skeleton: names and limbs of its keypoints.
        input_size: (height, width) of the crops.
        batch_size: people per call of the network.
        weights: where the weights were loaded from; None if the model was given.

    Example:
        >>> estimator = PoseEstimator.from_pretrained()
        >>> for person in estimator("people.jpg"):
        ...     print(person.keypoints.shape, person.names[0])  # x, y in pixels of the picture
        (17, 2) nose
        >>> boxes = [[100, 40, 80, 160]]  # x, y, width, height
        >>> len(estimator(["people.jpg", "people.jpg"], boxes=[boxes, boxes]))
        2
    """

    def __init__(
        self,
        model: "PoseModel",
        *,
        skeleton: Skeleton | None = None,
        flip_test: bool = True,
        method: "DecodeMethod" = "udp",
        batch_size: int | None = None,
        keep_heatmaps: bool = False,
    ) -> None:
        """Wrap a model.

        Args:
            model: the network.
            skeleton: its keypoints; by default those in its configuration, or else the first of
                `SKELETONS` with as many keypoints, with a warning.
            flip_test: average with the heatmaps of the mirrored crop (twice the work).
            method: how heatmaps are decoded, see `vitpose_jax.keypoints.decoding`.
            batch_size: people per batch; by default 64 on an accelerator and 8 on a CPU.
            keep_heatmaps: give every `Person` its heatmaps.

        Raises:
            UserError: an unusable batch size or method, or a skeleton that does not fit.
        """
        from vitpose_jax.inference.model_network import ModelNetwork

        self._use(ModelNetwork(model, skeleton, flip_test, method, keep_heatmaps), batch_size)

    def _use(self, network: Network, batch_size: int | None) -> None:
        self.network, self.skeleton = network, network.skeleton
        self.weights: str | None = None
        self._finder: tuple[str | None, Any] | None = None
        self.input_size = network.input_size
        self.batch_size = network.batch_size if batch_size is None else batch_size
        if not isinstance(self.batch_size, int | np.integer) or self.batch_size < 1:
            raise UserError(f"batch size {batch_size!r}: must be a whole number, at least 1")

    @classmethod
    @short_errors
    def from_pretrained(
        cls,
        weights: str | Path = DEFAULT_POSE_MODEL,
        dtype: "DTypeLike | None" = None,
        flip_test: bool | None = None,
        *,
        dataset: str | None = None,
        skeleton: Skeleton | str | Path | None = None,
        num_heads: int | None = None,
        input_size: tuple[int, int] | None = None,
        method: "DecodeMethod | None" = None,
        batch_size: int | None = None,
        keep_heatmaps: bool = False,
    ) -> "PoseEstimator":
        """Load weights from any source that `load_pose_model` takes.

        Args:
            weights: the name of a published model (`vitpose models` lists them; downloaded once),
                a folder, a checkpoint file or a hub id.
            dtype: compute dtype; by default bfloat16 on an accelerator and float32 on a CPU.
            flip_test, method: as for the constructor; by default True and "udp".
            batch_size, keep_heatmaps: as for the constructor.
            dataset: a key of `SKELETONS`, whose head or expert and skeleton to use.
            skeleton: the keypoints, if the weights do not name them or name them wrongly: a
                Skeleton, the name of a known one, or a file as for `read_skeleton`.
            num_heads: attention heads, if the weights do not tell.
            input_size: (height, width) of the crops, if different from the weights'.

        Raises:
            UserError: the weights cannot be used, or an option does not fit them.
        """
        if dataset is not None and dataset not in SKELETONS:
            raise UserError(f"no data set {dataset!r}: choose one of {', '.join(SKELETONS)}")
        if is_exported(weights):
            estimator = cls.from_exported(
                weights, batch_size=batch_size, keep_heatmaps=keep_heatmaps
            )
            wanted: dict[str, object] = {"dtype": dtype, "flip_test": flip_test, "decoder": method}
            wanted |= {"input_size": input_size and list(input_size), "dataset": dataset}
            estimator._refuse_others(wanted | {"skeleton": skeleton, "num_heads": num_heads})
            return estimator
        from vitpose_jax.inference.model_network import compute_dtype
        from vitpose_jax.weights import load_pose_model

        model = load_pose_model(
            weights,
            dtype=compute_dtype(dtype),
            input_size=input_size,
            num_heads=num_heads,
            dataset=dataset,
            skeleton=None if skeleton is None else read_skeleton(skeleton),
        )
        own = model.config.skeleton if skeleton is None else None
        if dataset is not None and own is not None:
            raise UserError(
                f"{weights} finds keypoints of its own ({', '.join(own.keypoint_names)}), "
                f"not those of {dataset}: leave the data set out"
            )
        estimator = cls(
            model,
            flip_test=flip_test is None or flip_test,
            method=method or "udp",
            batch_size=batch_size,
            keep_heatmaps=keep_heatmaps,
        )
        estimator.weights = str(weights)
        return estimator

    @classmethod
    def from_exported(
        cls, file: str | Path, *, batch_size: int | None = None, keep_heatmaps: bool = False
    ) -> "PoseEstimator":
        """Run a pose model that `vitpose export` wrote; for ONNX, JAX is not imported.

        Args:
            file: an .onnx or .stablehlo file; its description, FILE.json, is beside it.
            batch_size, keep_heatmaps: as for the constructor.

        Raises:
            UserError: a file is missing, was cut off or changed, or is of another version; it holds
                no pose model; or its runtime cannot load it.

        Example:
            >>> estimator = PoseEstimator.from_exported("model.onnx")
            >>> estimator("people.jpg", boxes=[[100, 40, 80, 160]])[0].keypoints.shape
            (17, 2)
        """
        from vitpose_jax.inference.exported import ExportedNetwork

        estimator = cls.__new__(cls)  # the constructor is for models, and imports JAX
        estimator._use(ExportedNetwork(read_artefact(file), keep_heatmaps), batch_size)
        estimator.weights = str(file)
        return estimator

    def _refuse_others(self, wanted: dict[str, object]) -> None:
        """Raise UserError if options differ from those that an exported file has built in."""
        from vitpose_jax.inference.exported import ExportedNetwork

        assert isinstance(self.network, ExportedNetwork)
        values = self.network.artefact.values
        for name, value in wanted.items():
            if value is not None and str(value) != str(values.get(name)):
                raise UserError(
                    f"{self.weights}: is exported with {name} {values.get(name, 'built in')}, "
                    f"which cannot become {value}; leave it out, or export again"
                )

    @property
    def identity(self) -> dict[str, str | None]:
        """Where the weights came from, if known, and a digest of their values."""
        return {"weights": self.weights, "digest": self.network.digest()}

    @overload
    def __call__(
        self, images: ImageLike, boxes: BoxSource = None, *, detector: str | None = None
    ) -> list[Person]: ...

    @overload
    def __call__(
        self,
        images: list[Any] | tuple[Any, ...],
        boxes: list[Any] | tuple[Any, ...] | None = None,
        *,
        detector: str | None = None,
    ) -> list[list[Person]]: ...

    @short_errors
    def __call__(
        self, images: Any, boxes: Any = None, *, detector: str | None = None
    ) -> list[Person] | list[list[Person]]:
        """The people of one image, or of each of a list of images.

        Args:
            images: uint8 RGB array, path or PIL picture (see `load_image`), or a list of these.
                Boxes and keypoints are in pixels of the upright image.
            boxes: where the people are, in a list for a list of images: (N, 4) x, y, width, height,
                or (N, 5) with a score at the end, or a function from the image to such boxes. Each
                box gives one person, in order; one that shows nothing (NaN, no area, outside the
                image) gives a person whose keypoints are zero. Without boxes, a detector finds
                people.
            detector: its name or file, as for `PersonDetector`; "none" takes each whole image as
                one person. Opened once.

        Raises:
            UserError: an image cannot be read, the boxes have another shape, or the detector cannot
                be used.
        """
        is_one = not isinstance(images, list | tuple)
        items = [images] if is_one else images
        if boxes is None:
            if self._finder is None or self._finder[0] != detector:
                self._finder = detector, open_finder(detector=detector)
            found: Any = [self._finder[1]] * len(items)
        else:
            found = [boxes] if is_one else boxes
        if len(found) != len(items):
            raise UserError(f"{len(items)} images, but boxes for {len(found)}: give one for each")
        stream = self.stream(zip(items, found, strict=True), keep_images=False)
        people = [prediction.people for prediction in stream]
        return people[0] if is_one else people

    def stream(
        self,
        items: Iterable[tuple[ImageLike, BoxSource]],
        skip_errors: bool = False,
        keep_images: bool = True,
        largest_kept: int | None = None,
    ) -> Iterator[Prediction]:
        """Find the people of many images, in order, batched across images.

        Threads read images, run detectors on them and crop people, a few images ahead of the
        device. The queue is bounded, so `items` may be endless; arrays and PIL pictures are copied
        on arrival, so the caller may reuse them. Errors are raised or yielded in order.

        Args:
            items: (image, boxes) as for `__call__`.
            skip_errors: yield predictions that carry the error instead of raising it.
            keep_images: include its image in every `Prediction` (which takes memory).
            largest_kept: leave out images of more bytes, unless they are given as arrays.
        """
        waiting: deque[Item] = deque()
        batches = Batches(self.network, self.batch_size)
        # What is run together depends only on the images since a batch ended, so that a stream may
        # be cut there without any effect on the results.
        most = BATCHES_WAITING * self.batch_size
        since = since_bytes = waiting_bytes = 0
        for item in prepare_ahead(items, self.input_size, keep_images, largest_kept):
            waiting.append(item)
            batches.add(item)
            size = 0 if item.image is None else item.image.nbytes
            since, since_bytes, waiting_bytes = since + 1, since_bytes + size, waiting_bytes + size
            if since > most or since_bytes > WAITING_BYTES:
                batches.flush()
            elif len(waiting) > 2 * most or waiting_bytes > 2 * WAITING_BYTES:
                batches.collect()
            item.batch_ends = batches.is_empty
            if item.batch_ends:
                since = since_bytes = 0
            while waiting and waiting[0].done:
                first = waiting.popleft()
                waiting_bytes -= 0 if first.image is None else first.image.nbytes
                yield self._finish(first, skip_errors)
        batches.flush()
        if waiting:
            waiting[-1].batch_ends = True
        for item in waiting:
            yield self._finish(item, skip_errors)

    def compile(self, size: int | None = None) -> None:
        """Compile the network for `size` people now, instead of when they first come.

        The default is a full batch; on a CPU, 1 is used for people left over at the end of a
        stream.
        """
        self.network.compile(size or self.batch_size)

    def _finish(self, item: Item, skip_errors: bool) -> Prediction:
        if isinstance(item.error, UserError) and skip_errors:
            return Prediction([], error=item.error, batch_ends=item.batch_ends)
        if item.error is not None:
            raise item.error
        rows = iter(item.rows)
        people = []
        for box, usable in zip(item.boxes, item.usable, strict=True):
            xy, scores, *kept = next(rows) if usable else self._empty_pose()
            heatmaps = kept[0] if kept else None
            people.append(
                Person(
                    xy,
                    scores,
                    box[:4],
                    float(box[4]),
                    heatmaps=heatmaps,
                    skeleton=self.skeleton,
                )
            )
        return Prediction(
            people, item.image_wh, item.image, item.problem, batch_ends=item.batch_ends
        )

    def _empty_pose(self) -> tuple[np.ndarray, ...]:
        """The network's output for a box that shows nothing."""
        count = self.skeleton.num_keypoints
        zeros = np.zeros((count, 2), np.float32), np.zeros(count, np.float32)
        heatmaps = np.zeros((*self.network.heatmap_size, count), np.float32)
        return (*zeros, heatmaps) if self.network.keep_heatmaps else zeros
