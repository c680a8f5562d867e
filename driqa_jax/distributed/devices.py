"""The mesh over all devices of all hosts, and what is placed on it."""

import contextlib
import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from driqa_jax.distributed.collectives import AXIS


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices along one axis, `data`, host after host; None: all devices of all hosts."""
    devices = jax.devices() if devices is None else devices
    # Not jax.make_mesh, which follows the wires of a pod: the devices of a host would part, and with them the
    # neighbours of a batch that one host has read.
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), (AXIS,), axis_types=(AxisType.Auto,))


def side_by_side(batch_size: int, group: int = 1) -> int:
    """The most parts, up to the number of cores, that a batch falls into, each of whole groups of neighbours."""
    units = batch_size // max(group, 1)  # what cannot be is refused later, by the name of its key
    return max(parts for parts in range(1, (os.cpu_count() or 1) + 1) if units % parts == 0)


def use_cores(parts: int) -> None:
    """Present the CPU as several devices, which compute side by side; accelerators are not touched.

    XLA leaves most of a training step of small convolutions to one core. Without effect once JAX has begun.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", parts)


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
    # This transfer is meant, which whoever guards against the others has to be told.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def everywhere(mesh: Mesh) -> NamedSharding:
    """The placing of what every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree, mesh: Mesh):
    """The same values on every device: those of the first host, where hosts have come to others."""
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere(mesh))
    from jax.experimental import multihost_utils

    def place(x):
        return jax.make_array_from_callback(x.shape, everywhere(mesh), lambda index: x[index])

    return jax.tree.map(place, multihost_utils.broadcast_one_to_all(tree))


def to_host(x: jax.Array) -> np.ndarray:
    """A global array, split over hosts or not, as one numpy array on each of them."""
    if x.is_fully_addressable:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x, tiled=True)
