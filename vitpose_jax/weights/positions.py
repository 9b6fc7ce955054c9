"""Adapting weights to another input size: position embeddings for another grid of patches."""

import logging
from dataclasses import replace

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.weights.native import Stored

log = logging.getLogger("vitpose_jax")

CUBIC = -0.75  # the kernel's free parameter in PyTorch's bicubic interpolation


def resized(stored: Stored, input_size: tuple[int, int] | None, where: str) -> Stored:
    """The same weights for another input size; logs when the position grid is interpolated."""
    if input_size is None:
        return stored
    backbone = replace(stored.backbone, input_size=input_size)
    if backbone == stored.backbone:
        return stored
    old, new = stored.backbone.grid_size, backbone.grid_size
    arrays = dict(stored.arrays)
    if old != new:
        log.warning(
            "%s: position grid interpolated (bicubic) from %dx%d to %dx%d for input size %dx%d",
            where,
            *old,
            *new,
            *backbone.input_size,
        )
        arrays["backbone.pos_embed"] = resize_positions(arrays["backbone.pos_embed"], old, new)
    return stored.with_backbone(backbone, arrays)


def cubic_weights(old: int, new: int) -> np.ndarray:
    """(new, old) matrix of PyTorch's 1-d bicubic interpolation, corners not aligned.

    Edges are repeated. PyTorch's kernel has the parameter -0.75, so `jax.image.resize`, which has
    -0.5, cannot be used.
    """
    centres = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(centres).astype(int)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        distance = np.abs(centres - first - offset)
        near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
        far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
        source = np.clip(first + offset, 0, old - 1)
        np.add.at(weights, (np.arange(new), source), np.where(distance <= 1, near, far))
    return weights


def resize_positions(
    pos_embed: np.ndarray, old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> np.ndarray:
    """Resize a position embedding (1, 1 + h * w, C) from one (rows, columns) grid to another.

    Row 0, the old class token's, is unchanged; the grid is interpolated in float64 as in the
    authors' code (`torch.nn.functional.interpolate`, bicubic, `align_corners=False`). The result is
    float32.
    """
    grid = pos_embed[0, 1:].reshape(*old_grid, -1).astype(np.float64)
    rows, columns = (cubic_weights(o, n) for o, n in zip(old_grid, new_grid, strict=True))
    resized = np.einsum("ab,cd,bde->ace", rows, columns, grid, optimize=True)
    resized = resized.reshape(1, -1, pos_embed.shape[-1]).astype(np.float32)
    return np.concatenate([pos_embed[:, :1], resized], axis=1)


def guess_grid(positions: int, where: str) -> tuple[int, int]:
    """(rows, columns) of a number of patches: 4:3 as for crops of people (16 x 12), or a square.

    Raises:
        UserError: neither fits.
    """
    unit = round((positions / 12) ** 0.5)
    if 12 * unit**2 == positions:
        return 4 * unit, 3 * unit
    side = round(positions**0.5)
    if side**2 == positions:
        return side, side
    raise UserError(
        f"{where}: cannot tell the grid of {positions} position embeddings (neither 4:3 nor "
        "square); give the input size the weights were made for (--input-size, input_size=)"
    )
