"""From images and boxes to poses: one compiled function, fed with full batches of people.

Threads on the host read images and crop people while the device works on the previous batch. Crops
are transferred as uint8; everything from normalisation to image coordinates is one jitted function,
compiled for a full batch and, on CPUs, for the single people left over at the end.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vitpose_jax.data.coco.skeleton_file import read_skeleton
from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import ImageLike, Pixels
from vitpose_jax.inference.batching import Batches
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.preparation import BoxSource, Item, prepare_ahead
from vitpose_jax.keypoints.decoding import DECODE_METHODS, DecodeMethod
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.prediction import PredictionOptions, cast_matrices, prediction_program
from vitpose_jax.weights import load_pose_model

log = logging.getLogger(__name__)

CPU_BATCH, ACCELERATOR_BATCH = 8, 64
BATCHES_WAITING = 4
"""How many batches' worth of images may wait for an image whose people are not yet in a batch."""
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Prediction:
    """The people of one image.

    Attributes:
        people: one per box, in the boxes' order.
        image_wh: (width, height) of the upright image; (0, 0) if it could not be used.
        image: None if it could not be used or was not kept.
        problem: what is wrong with the image, if it could be used all the same.
        error: why the image could not be used.
    """

    people: list[Person]
    image_wh: tuple[int, int] = (0, 0)
    image: Pixels | None = None
    problem: str | None = None
    error: UserError | None = None


class PoseEstimator:
    """Finds the keypoints of people whose boxes are known.

    Attributes:
        model: the network.
        skeleton: names and limbs of its keypoints.
        input_size: (height, width) of the crops.
        batch_size: people per call of the compiled function.
        programs: compiled functions so far, by number of people.

    Example:
        >>> estimator = PoseEstimator.from_pretrained("weights/vitpose-b")
        >>> people = estimator("people.jpg", boxes=[[100, 40, 80, 160]])  # x, y, width, height
        >>> people[0].keypoints.shape  # x, y in pixels of the picture
        (17, 2)
    """

    def __init__(
        self,
        model: PoseModel,
        *,
        skeleton: Skeleton | None = None,
        flip_test: bool = True,
        method: DecodeMethod = "udp",
        batch_size: int | None = None,
        keep_heatmaps: bool = False,
    ) -> None:
        """Wrap a network.

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
        on_cpu = jax.default_backend() == "cpu"
        default_batch = CPU_BATCH if on_cpu else ACCELERATOR_BATCH
        self.model = model
        self.batch_size = batch_size if batch_size is not None else default_batch
        if not isinstance(self.batch_size, int | np.integer) or self.batch_size < 1:
            raise UserError(f"batch size {batch_size!r}: must be a whole number, at least 1")
        if method not in DECODE_METHODS:
            raise UserError(f"no decoder {method!r}: choose one of {', '.join(DECODE_METHODS)}")
        self.input_size = model.config.input_size
        self.skeleton = skeleton or _skeleton_of(model)
        if self.skeleton.num_keypoints != model.config.num_keypoints:
            raise UserError(
                f"the {self.skeleton.name} skeleton has {self.skeleton.num_keypoints} keypoints, "
                f"but the network gives {model.config.num_keypoints}"
            )
        self._graph, state = nnx.split(model)
        self._state = cast_matrices(state, model.dtype)
        flip_index = tuple(map(int, self.skeleton.flip_index)) if flip_test else None
        self._options = PredictionOptions(flip_index, method, keep_heatmaps=keep_heatmaps)
        self.programs: dict[int, jax.stages.Compiled] = {}

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path,
        dtype: DTypeLike | None = None,
        flip_test: bool = True,
        *,
        dataset: str | None = None,
        skeleton: Skeleton | str | Path | None = None,
        num_heads: int | None = None,
        input_size: tuple[int, int] | None = None,
        method: DecodeMethod = "udp",
        batch_size: int | None = None,
        keep_heatmaps: bool = False,
    ) -> "PoseEstimator":
        """Load weights from any source that `load_pose_model` takes.

        Args:
            weights: folder, checkpoint file or hub id.
            dtype: compute dtype; by default bfloat16 on an accelerator and float32 on a CPU.
            flip_test, method, batch_size, keep_heatmaps: as for the constructor.
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
        model = load_pose_model(
            weights,
            dtype=_compute_dtype(dtype),
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
        return cls(
            model,
            flip_test=flip_test,
            method=method,
            batch_size=batch_size,
            keep_heatmaps=keep_heatmaps,
        )

    def __call__(self, image: ImageLike, boxes: BoxSource = None) -> list[Person]:
        """The people of one image, one per box, in the boxes' order.

        Args:
            image: uint8 RGB array, path or PIL picture (see `load_image`). Boxes and keypoints are
                in pixels of the upright image.
            boxes: (N, 4) x, y, width, height, or (N, 5) with a score at the end; or a function from
                the image to such boxes; None takes the whole image as one person. A box that shows
                nothing (NaN, no area, outside the image) gives a person whose keypoints are zero.

        Raises:
            UserError: the image cannot be read, or the boxes have another shape.
        """
        return next(self.stream([(image, boxes)])).people

    def stream(
        self,
        items: Iterable[tuple[ImageLike, BoxSource]],
        skip_errors: bool = False,
        keep_images: bool = True,
    ) -> Iterator[Prediction]:
        """Find the people of many images, in order, batched across images.

        Threads read images, run detectors on them and crop people, a few images ahead of the
        device. The queue is bounded, so `items` may be endless; arrays and PIL pictures are copied
        on arrival, so the caller may reuse them. Errors are raised or yielded in order.

        Args:
            items: (image, boxes) as for `__call__`.
            skip_errors: yield predictions that carry the error instead of raising it.
            keep_images: include its image in every `Prediction` (which takes memory).
        """
        waiting: deque[Item] = deque()
        batches = Batches(self._run, self.batch_size)
        for item in prepare_ahead(items, self.input_size, keep_images):
            waiting.append(item)
            batches.add(item)
            if len(waiting) > BATCHES_WAITING * self.batch_size:
                batches.flush()
            while waiting and waiting[0].done:
                yield self._finish(waiting.popleft(), skip_errors)
        batches.flush()
        for item in waiting:
            yield self._finish(item, skip_errors)

    def compile(self, size: int | None = None) -> None:
        """Compile the function for `size` people now, instead of when it is first needed.

        The default is a full batch; on a CPU, 1 is used for people left over at the end of a
        stream.
        """
        size = size or self.batch_size
        crops = np.zeros((size, *self.input_size, 3), np.uint8)
        region = np.ones((size, 2), np.float32)
        batch = {"crop": crops, "center": region, "scale": region}
        images = size if self._options.flip_index is None else 2 * size
        program = prediction_program(self.model.dtype, images)
        lowered = program.lower(self._graph, self._state, batch, self._options)
        self.programs[size] = lowered.compile()

    def _run(
        self, crops: np.ndarray, center: np.ndarray, scale: np.ndarray
    ) -> tuple[jax.Array, ...]:
        size = len(crops)
        if size not in self.programs:
            self.compile(size)
        batch = {"crop": crops, "center": center, "scale": scale}
        return self.programs[size](self._state, batch)

    def _finish(self, item: Item, skip_errors: bool) -> Prediction:
        if isinstance(item.error, UserError) and skip_errors:
            return Prediction([], error=item.error)
        if item.error is not None:
            raise item.error
        rows = iter(item.rows)
        people = []
        for box, usable in zip(item.boxes, item.usable, strict=True):
            xy, scores, *kept = next(rows) if usable else self._empty_pose()
            heatmaps = kept[0] if kept else None
            people.append(Person(xy, scores, box[:4], float(box[4]), heatmaps=heatmaps))
        return Prediction(people, item.image_wh, item.image, item.problem)

    def _empty_pose(self) -> tuple[np.ndarray, ...]:
        """The network's output for a box that shows nothing."""
        count = self.skeleton.num_keypoints
        zeros = np.zeros((count, 2), np.float32), np.zeros(count, np.float32)
        heatmaps = np.zeros((*self.model.config.heatmap_size, count), np.float32)
        return (*zeros, heatmaps) if self._options.keep_heatmaps else zeros


def _compute_dtype(dtype: DTypeLike | None) -> jnp.dtype:
    if dtype is None:
        return jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16")
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in COMPUTE_DTYPES:
        raise UserError(f"no dtype {dtype!r}: choose one of {', '.join(COMPUTE_DTYPES)}")
    return found


def _skeleton_of(model: PoseModel) -> Skeleton:
    config = model.config
    if config.skeleton is not None:
        return config.skeleton
    if config.dataset is not None:
        return SKELETONS[config.dataset]
    fitting = [s for s in SKELETONS.values() if s.num_keypoints == config.num_keypoints]
    if not fitting:
        raise UserError(
            f"the weights do not say what their {config.num_keypoints} keypoints are, and no known "
            "skeleton has as many: give one (skeleton=, or --skeleton of `vitpose predict` or of "
            "convert/torch_to_flax.py, which stores it with the weights)"
        )
    log.warning(
        "the weights do not say what their %d keypoints are: assuming those of %s, in its order "
        "(to change this, use --skeleton or skeleton=, or --dataset or dataset=)",
        config.num_keypoints,
        fitting[0].name,
    )
    return fitting[0]
