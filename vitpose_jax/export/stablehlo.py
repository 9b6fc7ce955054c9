"""Writing a program as StableHLO: a zip of the serialised program and its weights.

`program.jax` is what `jax.export` serialises (StableHLO as VHLO bytecode); `weights.safetensors`
holds its first argument, a dict of arrays. Neither is compressed.
"""

import zipfile
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save

from vitpose_jax.export.programs import Program
from vitpose_jax.inference.artefact import PROGRAM_FILE, WEIGHTS_FILE
from vitpose_jax.models.backends import portable

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(program: Program, path: Path) -> None:
    """Write a program for all `PLATFORMS` at once."""
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in program.weights.items()}
    with portable():
        exported = jax.export.export(jax.jit(program.function), platforms=PLATFORMS)(
            shapes, *program.inputs.values()
        )
    arrays = {name: np.asarray(array) for name, array in program.weights.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(PROGRAM_FILE, bytes(exported.serialize()))
        with archive.open(WEIGHTS_FILE, "w", force_zip64=True) as file:
            file.write(save(arrays))
