"""Running exported models: ONNX files by ONNX Runtime, without JAX, and StableHLO by JAX."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vitpose_jax.errors import UserError, first_line
from vitpose_jax.inference.artefact import (
    PROGRAM_FILE,
    WEIGHTS_FILE,
    Artefact,
    read_artefact,
)

CPU_BATCH, ACCELERATOR_BATCH = 8, 64


class Runtime(Protocol):
    """Runs an exported model's program.

    Attributes:
        device: what it runs on, for messages.
        on_cpu: whether that is the host's processor.
        any_size: whether batches of a new size need no compiling.
    """

    device: str
    on_cpu: bool
    any_size: bool

    def compile(self, size: int) -> None:
        """Compile the program for batches of this size, if it has to be."""
        ...

    def __call__(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[Any]:
        """The named outputs; the inputs' first axis is the batch's."""
        ...


class OnnxRuntime:
    """A `Runtime` for ONNX files; on an accelerator if ONNX Runtime was built for one."""

    any_size = True

    def __init__(self, artefact: Artefact) -> None:
        """Load the file; raises UserError if ONNX Runtime cannot."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # "Azure" sends some operators to a server; none of ours.
        available = onnxruntime.get_available_providers()
        providers = [name for name in available if name != "AzureExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(
                str(artefact.path), options, providers=providers
            )
        except Exception as error:  # the runtime's exceptions share no base class
            raise UserError(
                f"{artefact.path}: ONNX Runtime {onnxruntime.__version__} cannot load it "
                f"({first_line(error)})"
            ) from None
        used = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.on_cpu, self.device = used == "CPU", f"ONNX Runtime {used}"

    def compile(self, size: int) -> None:
        """Nothing to do."""

    def __call__(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[Any]:
        """See `Runtime`."""
        return self._session.run(list(outputs), dict(inputs))


class StableHlo:
    """A `Runtime` for StableHLO; on JAX's default device."""

    any_size = False

    def __init__(self, artefact: Artefact) -> None:
        """Load the file; raises UserError if this JAX cannot."""
        import jax
        from jax.export import deserialize

        backend = jax.default_backend()
        self.on_cpu, self.device = backend == "cpu", f"StableHLO on {backend}"
        self._dtype = artefact.values["dtype"]
        self._mirrored = 2 if artefact.values.get("flip_test") else 1
        try:
            with zipfile.ZipFile(artefact.path) as archive:
                self._exported = deserialize(bytearray(archive.read(PROGRAM_FILE)))
                self._weights = jax.device_put(_arrays(archive.read(WEIGHTS_FILE)))
        except Exception as error:  # of the zip, of flatbuffers, of MLIR, of safetensors
            theirs = artefact.values["made_with"].get("jax")
            raise UserError(
                f"{artefact.path}: JAX {jax.__version__} cannot load it ({first_line(error)}); it "
                f"was exported with JAX {theirs}, and JAX reads programs that are at most six "
                "months older: export again, or install that version"
            ) from None
        self._programs: dict[int, Any] = {}

    def compile(self, size: int) -> None:
        """Compile for this batch size."""
        import jax

        from vitpose_jax.models.backends import compiler_options

        shapes = [
            jax.ShapeDtypeStruct((size, *spec.shape[1:]), spec.dtype)
            for spec in self._exported.in_avals[len(self._weights) :]
        ]
        options = compiler_options(self._dtype, size * self._mirrored)
        program = jax.jit(self._exported.call, compiler_options=options)
        self._programs[size] = program.lower(self._weights, *shapes).compile()

    def __call__(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[Any]:
        """See `Runtime`; programs give all outputs, in the order of their names here."""
        size = len(next(iter(inputs.values())))
        if size not in self._programs:
            self.compile(size)
        found = self._programs[size](self._weights, *inputs.values())
        return list(found[: len(outputs)])


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; `safetensors.numpy` does not read bfloat16."""
    import ml_dtypes
    import safetensors

    kinds = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    return {
        name: np.frombuffer(part["data"], kinds[part["dtype"]]).reshape(part["shape"])
        for name, part in safetensors.deserialize(data)
    }


RUNTIMES: dict[str, Callable[[Artefact], Runtime]] = {"onnx": OnnxRuntime, "stablehlo": StableHlo}


class ExportedNetwork:
    """An exported pose model as the network of a `PoseEstimator`.

    See `vitpose_jax.inference.network.Network`.

    Attributes:
        artefact: the model.
    """

    def __init__(self, artefact: Artefact, keep_heatmaps: bool = False) -> None:
        """Load it.

        Raises:
            UserError: it is no pose model with decoding, or its runtime cannot load it.
        """
        if artefact.kind != "pose":
            raise UserError(
                f"{artefact.path}: holds a {artefact.kind}, not a pose model from crops to "
                "keypoints; export the pose model without --heatmaps"
            )
        self.artefact, values = artefact, artefact.values
        self.skeleton, self.keep_heatmaps = artefact.skeleton, keep_heatmaps
        self.input_size: tuple[int, int] = (values["input_size"][0], values["input_size"][1])
        self.heatmap_size: tuple[int, int] = (values["heatmap_size"][0], values["heatmap_size"][1])
        self._runtime = RUNTIMES[artefact.runtime](artefact)
        self.batch_size = CPU_BATCH if self._runtime.on_cpu else ACCELERATOR_BATCH
        self.description = f"{self._runtime.device}, {values['dtype']}"
        self._outputs = ("keypoints", "scores", "heatmaps")[: 3 if keep_heatmaps else 2]

    def rows(self, waiting: int, full: int) -> int:
        """See `Network.rows`: what comes without compiling or padding, if that is possible."""
        if self._runtime.any_size:
            return waiting
        return 1 if self._runtime.on_cpu else full

    def digest(self) -> str:
        """A digest of the file."""
        return self.artefact.values["sha256"]

    def compile(self, size: int) -> None:
        """See `Network.compile`."""
        self._runtime.compile(size)

    def run(self, crops: np.ndarray, center: np.ndarray, scale: np.ndarray) -> tuple[Any, ...]:
        """See `Network.run`."""
        inputs = {"crops": crops, "center": center, "scale": scale}
        return tuple(self._runtime(inputs, self._outputs))


def load_exported(source: str | Path) -> tuple[Artefact, Runtime]:
    """An exported model of any kind, and what runs it: `runtime({"images": ...}, ["heatmaps"])`.

    Raises:
        UserError: it is damaged, or its runtime cannot load it.
    """
    artefact = read_artefact(source)
    return artefact, RUNTIMES[artefact.runtime](artefact)
