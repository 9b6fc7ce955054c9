"""Where arrays live: one mesh axis over all devices of all processes.

Batches are always split along it. Parameters and optimiser state are either whole on every device
("data") or split along it too ("full"); XLA then gathers a layer's weights where they are used, and
scatters its gradients.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vitpose_jax.errors import UserError

AXIS = "devices"
SHARDINGS = ("data", "full")


def device_mesh() -> Mesh:
    """Return all devices in a row."""
    return Mesh(np.asarray(jax.devices()), (AXIS,))


def process_shard() -> tuple[int, int]:
    """Return (index of this process, number of processes): the part of the data it reads."""
    return jax.process_index(), jax.process_count()


def state_sharding(state: Any, mesh: Mesh, kind: str) -> Any:
    """Replicate every array ("data"), or split its longest axis that divides evenly ("full")."""
    if kind not in SHARDINGS:
        raise UserError(f"config.sharding is {kind!r}; choose one of {', '.join(SHARDINGS)}")

    def place(leaf: jax.Array) -> NamedSharding:
        axes = [i for i, size in enumerate(leaf.shape) if size and size % mesh.size == 0]
        if kind == "data" or leaf.ndim < 2 or not axes:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, AXIS))

    return jax.tree.map(place, state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: split along the first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def check_batch_size(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raise UserError unless each part of a batch divides evenly among the devices."""
    if accumulate < 1 or batch_size < 1 or batch_size % (mesh.size * accumulate):
        parts = f" x accumulate {accumulate}" if accumulate != 1 else ""
        raise UserError(
            f"config.batch_size {batch_size} does not divide into {mesh.size} device(s){parts}: "
            f"choose a multiple of {mesh.size * max(accumulate, 1)}"
        )


def local_batch_size(batch_size: int) -> int:
    """Return how many rows of a global batch this process reads."""
    return batch_size // jax.process_count()


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Make global arrays, sharded over all devices, from this process's rows.

    64-bit integers (ids) are left out: JAX would truncate them to 32 bits, and no device needs
    them.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
        if value.dtype not in (np.int64, np.uint64)
    }


def local_rows(array: jax.Array) -> np.ndarray:
    """Return the rows of a batch-sharded array on this process's devices, in order."""
    if array.is_fully_replicated:
        return np.asarray(array)
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Concatenate the rows of all processes, the same number each; exact for any dtype."""
    if jax.process_count() == 1:
        return rows
    as_bytes = np.frombuffer(np.ascontiguousarray(rows).tobytes(), np.uint8)
    gathered = multihost_utils.process_allgather(as_bytes)
    return np.frombuffer(np.ascontiguousarray(gathered).tobytes(), rows.dtype).reshape(
        -1, *rows.shape[1:]
    )


def gather_values(value: Any) -> list[Any]:
    """Return every process's JSON-able value, in order."""
    text = json.dumps(value).encode()
    size = int(gather_rows(np.array([len(text)])).max())
    rows = gather_rows(np.frombuffer(text.ljust(size), np.uint8)[None])
    return [json.loads(row.tobytes()) for row in rows]
