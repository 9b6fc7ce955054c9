"""A PyTorch checkpoint before and after it is understood, and what the user says about it."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import Skeleton
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.necks import NeckConfig
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights.mapping import Naming
from vitpose_jax.weights.tensors import read_config, read_network


@dataclass(frozen=True)
class Hints:
    """What a checkpoint may not tell about itself; None leaves it to the checkpoint.

    Attributes:
        num_heads: attention heads, for an original file of an unusual width.
        dataset: which head of a ViTPose+ file to take, and its default expert.
        input_size: (height, width) in pixels the weights were made for, where neither a 4:3 grid
            nor a square fits.
        backbone_only: leave out everything but the backbone, known or not.
        fpn_strides: of an original file's feature pyramid.
        fpn_taps: the blocks, from 0, that an original file's pyramid reads.
        ema: take the averaged (EMA) copy of the weights that some training programs keep.
    """

    num_heads: int | None = None
    dataset: str | None = None
    input_size: tuple[int, int] | None = None
    backbone_only: bool = False
    fpn_strides: tuple[int, ...] | None = None
    fpn_taps: tuple[int, ...] | None = None
    ema: bool = False

    def check_num_heads(self, found: int, where: str) -> None:
        """Raise UserError where config.json has another number of heads."""
        if self.num_heads not in (None, found):
            raise UserError(
                f"{where}: num_heads {self.num_heads} was asked for, but config.json says {found}"
            )


@dataclass(frozen=True)
class Checkpoint:
    """One network's tensors as they lie in the file, and what is known beside them.

    `config` is the folder's config.json (empty for a lone file); `notes` are for the user to read.
    """

    where: str
    tensors: dict[str, np.ndarray]
    config: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def tensor(self, key: str, ndim: int | None = None) -> np.ndarray:
        """The tensor of that key; UserError where it is missing or not of `ndim` dimensions."""
        if key not in self.tensors:
            raise UserError(f"{self.where}: tensor {key!r} is missing; not a ViTPose checkpoint")
        tensor = self.tensors[key]
        if not tensor.size:
            raise UserError(
                f"{self.where}: tensor {key!r} is empty, as in one part of a network that was "
                "split over devices (DeepSpeed ZeRO, FSDP); join the parts (zero_to_fp32.py)"
            )
        if ndim not in (None, tensor.ndim):
            raise UserError(
                f"{self.where}: tensor {key!r} has shape {tensor.shape}, expected {ndim} "
                "dimensions; not a ViTPose checkpoint"
            )
        return tensor

    def count(self, pattern: str) -> int:
        """How many numbers the pattern's group finds among the keys.

        Raises:
            UserError: they are not 0, 1, 2, ...
        """
        found = {m.group(1): key for key in self.tensors if (m := re.fullmatch(pattern, key))}
        if strange := found.keys() - set(map(str, range(len(found)))):
            raise UserError(
                f"{self.where}: has {found[min(strange)][:80]!r} but only {len(found)} of its kind"
                "; the file is incomplete or damaged"
            )
        return len(found)

    def deconv_filters(self, key: str, first: int, step: int) -> tuple[int, ...]:
        """Output channels of the deconvolutions whose keys count from `first` by `step`."""
        filters: list[int] = []
        while True:
            tensor = self.tensors.get(key.format(first + step * len(filters)))
            if tensor is None or tensor.ndim != 4:
                return tuple(filters)
            filters.append(tensor.shape[1])


@dataclass(frozen=True)
class Architecture:
    """A checkpoint understood: our configurations, and its tensors under the mapping's keys.

    `decoder` is None for a file that holds a backbone only; `notes` are for the user to read.
    """

    naming: Naming
    backbone: ViTConfig
    decoder: DecoderConfig | None
    dataset: str | None
    tensors: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()
    neck: NeckConfig | None = None
    skeleton: Skeleton | None = None


def read_checkpoint(path: Path, ema: bool = False) -> Checkpoint:
    """Read a PyTorch or safetensors file, or a folder of config.json and weights.

    Raises:
        UserError: unreadable, truncated, refused (a pickle that would run code), or no weights.
    """
    config = read_config(path) if path.is_dir() else {}
    tensors, notes = read_network(path, ema)
    return Checkpoint(str(path), tensors, config, notes)
