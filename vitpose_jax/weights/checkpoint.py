"""A PyTorch checkpoint as read, the architecture recognised in it, and the user's hints."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import Skeleton
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights.mapping import Naming
from vitpose_jax.weights.tensors import read_config, read_network


@dataclass(frozen=True)
class Hints:
    """What a checkpoint may not say about itself; None means to rely on the checkpoint.

    Attributes:
        num_heads: attention heads, for an original file of an unusual width.
        dataset: data set whose head and default expert to take from a ViTPose+ file.
        input_size: (height, width) in pixels that the weights were made for, if neither a 4:3 grid
            nor a square fits.
        backbone_only: ignore everything but the backbone, whether it is recognised or not.
        fpn_strides: strides of an original file's feature pyramid.
        fpn_taps: the blocks, from 0, that an original file's pyramid reads.
        ema: take the averaged (EMA) copy of the weights that some training programs store.
    """

    num_heads: int | None = None
    dataset: str | None = None
    input_size: tuple[int, int] | None = None
    backbone_only: bool = False
    fpn_strides: tuple[int, ...] | None = None
    fpn_taps: tuple[int, ...] | None = None
    ema: bool = False

    def check_num_heads(self, found: int, where: str) -> None:
        """Raise UserError if config.json has another number of heads."""
        if self.num_heads not in (None, found):
            raise UserError(
                f"{where}: num_heads {self.num_heads} was asked for, but config.json says {found}"
            )


@dataclass(frozen=True)
class Checkpoint:
    """One network's tensors as they are in the file, and what else is known about them.

    `config` is the folder's config.json (empty for a single file); `notes` are for the user.
    """

    where: str
    tensors: dict[str, np.ndarray]
    config: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def tensor(self, key: str, ndim: int | None = None) -> np.ndarray:
        """The tensor of that key; UserError if it is missing or does not have `ndim` dimensions."""
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
        """How many different numbers the pattern's group matches among the keys.

        Raises:
            UserError: the numbers are not 0, 1, 2, ...
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
    """The architecture of a checkpoint: our configurations, and its tensors under mapping keys.

    `decoder` is None for a file that holds only a backbone; `notes` are for the user.
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
        UserError: the file is unreadable or truncated, is a pickle that would run code, or holds no
            weights.
    """
    config = read_config(path) if path.is_dir() else {}
    tensors, notes = read_network(path, ema)
    return Checkpoint(str(path), tensors, config, notes)
