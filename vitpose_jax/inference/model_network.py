"""A pose model as the network of a `PoseEstimator`, compiled by JAX.

Crops are transferred as uint8; everything from normalisation to image coordinates is one jitted
function, compiled for a full batch and, on CPUs, for the single people left over at the end.
"""

import logging

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vitpose_jax.errors import UserError
from vitpose_jax.files.fingerprint import digest
from vitpose_jax.keypoints.decoding import DECODE_METHODS, DecodeMethod
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.prediction import PredictionOptions, cast_matrices, prediction_program

log = logging.getLogger(__name__)

CPU_BATCH, ACCELERATOR_BATCH = 8, 64
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


class ModelNetwork:
    """See `vitpose_jax.inference.network.Network`.

    Attributes:
        model: the network.
        programs: compiled functions so far, by number of people.
    """

    def __init__(
        self,
        model: PoseModel,
        skeleton: Skeleton | None = None,
        flip_test: bool = True,
        method: DecodeMethod = "udp",
        keep_heatmaps: bool = False,
    ) -> None:
        """Wrap a model; the arguments are those of `PoseEstimator`.

        Raises:
            UserError: no such method, or a skeleton that does not fit.
        """
        if method not in DECODE_METHODS:
            raise UserError(f"no decoder {method!r}: choose one of {', '.join(DECODE_METHODS)}")
        config, self.model = model.config, model
        self.skeleton = skeleton or skeleton_of(model)
        if self.skeleton.num_keypoints != config.num_keypoints:
            raise UserError(
                f"the {self.skeleton.name} skeleton has {self.skeleton.num_keypoints} keypoints, "
                f"but the network gives {config.num_keypoints}"
            )
        self.input_size, self.heatmap_size = config.input_size, config.heatmap_size
        self._on_cpu = jax.default_backend() == "cpu"
        self.batch_size = CPU_BATCH if self._on_cpu else ACCELERATOR_BATCH
        self.keep_heatmaps = keep_heatmaps
        self.description = f"{jax.default_backend()}, {model.dtype}"
        self._graph, state = nnx.split(model)
        self._state = cast_matrices(state, model.dtype)
        flip_index = tuple(map(int, self.skeleton.flip_index)) if flip_test else None
        self._options = PredictionOptions(flip_index, method, keep_heatmaps=keep_heatmaps)
        self.programs: dict[int, jax.stages.Compiled] = {}

    def rows(self, waiting: int, full: int) -> int:
        """One on a CPU, where padding costs as much as real people; a padded batch elsewhere."""
        return 1 if self._on_cpu else full

    def digest(self) -> str:
        """A digest of the model's parameters, whatever file they came from."""
        state = nnx.to_flat_state(nnx.state(self.model, nnx.Any(nnx.Param, nnx.BatchStat)))
        return digest(np.asarray(variable.get_value()) for _, variable in state)

    def compile(self, size: int) -> None:
        """Compile the program for `size` people."""
        crops = np.zeros((size, *self.input_size, 3), np.uint8)
        region = np.ones((size, 2), np.float32)
        batch = {"crop": crops, "center": region, "scale": region}
        images = size if self._options.flip_index is None else 2 * size
        program = prediction_program(self.model.dtype, images)
        lowered = program.lower(self._graph, self._state, batch, self._options)
        self.programs[size] = lowered.compile()

    def run(
        self, crops: np.ndarray, center: np.ndarray, scale: np.ndarray
    ) -> tuple[jax.Array, ...]:
        """Start computing; see `Network.run`."""
        size = len(crops)
        if size not in self.programs:
            self.compile(size)
        batch = {"crop": crops, "center": center, "scale": scale}
        outputs = self.programs[size](self._state, batch)
        for output in outputs:
            output.copy_to_host_async()
        return outputs


def compute_dtype(dtype: DTypeLike | None) -> jnp.dtype:
    """The compute dtype that was asked for; by default the one that suits the device.

    Raises:
        UserError: networks do not compute in it.
    """
    if dtype is None:
        return jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16")
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in COMPUTE_DTYPES:
        raise UserError(f"no dtype {dtype!r}: choose one of {', '.join(COMPUTE_DTYPES)}")
    return found


def skeleton_of(model: PoseModel) -> Skeleton:
    """The keypoints of a model by its configuration, or else the first known ones of their number.

    Raises:
        UserError: it does not say what they are, and no known skeleton has as many.
    """
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
            "`vitpose convert`, which stores it with the weights)"
        )
    log.warning(
        "the weights do not say what their %d keypoints are: assuming those of %s, in its order "
        "(to change this, use --skeleton or skeleton=, or --dataset or dataset=)",
        config.num_keypoints,
        fitting[0].name,
    )
    return fitting[0]
