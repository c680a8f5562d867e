"""One mesh over all devices, and the few collectives that the per-device step is written with.

The rule that keeps values *and gradients* the same on any number of devices: a step's loss is a share, so that the
shares of all devices add up to the loss of the global batch. A loss that compares samples is computed in full from
gathered arrays on every device and divided by their number; the transpose of the gather brings back what the other
devices owe, and the gradients are then summed once.
"""

import contextlib
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices along one axis, `data`; None: all devices of all hosts."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def side_by_side(batch_size: int, block: int = 0) -> int:
    """The most parts, up to the number of cores, that a batch falls into, each of whole blocks."""
    units = batch_size // (block or 1)
    return max(parts for parts in range(1, (os.cpu_count() or 1) + 1) if units % parts == 0)


def use_cores(parts: int) -> None:
    """Present the CPU as several devices, which compute side by side; accelerators are not touched.

    XLA leaves most of a training step of small convolutions to one core. Without effect once JAX has begun.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", parts)


def gather(x: jax.Array, axis: int = 0) -> jax.Array:
    """Inside a step: the pieces of all devices, concatenated along `axis` in the order of the global batch."""
    return lax.all_gather(x, AXIS, axis=axis, tiled=True)


def local_slice(x: jax.Array, axis: int = 0) -> jax.Array:
    """Inside a step: this device's piece of a gathered array."""
    size = x.shape[axis] // lax.axis_size(AXIS)
    return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size, axis)


def share(global_value: jax.Array) -> jax.Array:
    """Inside a step: this device's share of a value that every device holds in full."""
    return global_value / lax.axis_size(AXIS)


def total(tree):
    """Inside a step: the sum over devices of every leaf."""
    return lax.psum(tree, AXIS)


def map_step(step: Callable, mesh: Mesh, donate: bool = True) -> Callable:
    """Compile `step(state, batch) -> (state, metrics)` for all devices.

    The state and the metrics are replicated; every leaf of the batch is split along its first axis.
    """
    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
    # Replication is kept by the explicit collectives above. With the automatic check JAX would sum the gradients
    # of replicated parameters itself, a second time.
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(everywhere, split), out_specs=(everywhere, everywhere), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=(0,) if donate else ())


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's share of a global batch onto its devices, split along the first axis.

    Raises:
      ValueError: the devices do not divide the batch.
    """
    count = next(iter(batch.values())).shape[0] * jax.process_count()
    if count % mesh.size:
        raise ValueError(
            f"a batch of {count} cannot be split over {mesh.size} devices; set config.batch_size accordingly"
        )
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def everywhere(mesh: Mesh) -> NamedSharding:
    """The placing of what every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree, mesh: Mesh):
    """The same values on every device."""
    return jax.device_put(tree, everywhere(mesh))


def to_host(x: jax.Array) -> np.ndarray:
    """A global array, split over hosts or not, as one numpy array on each of them."""
    if x.is_fully_addressable:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x, tiled=True)
