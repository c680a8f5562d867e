"""The mesh over all devices of all hosts, and the placement of arrays on it."""

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
    # jax.make_mesh follows the network of a pod and can separate the devices of a host, and with them consecutive
    # examples that the host has read.
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), (AXIS,), axis_types=(AxisType.Auto,))


def side_by_side(batch_size: int, group: int = 1) -> int:
    """The largest number of equal parts of a batch, up to the number of cores, that keeps groups of `group` whole."""
    units = batch_size // max(group, 1)  # the loop refuses invalid values by the name of their key
    return max(parts for parts in range(1, (os.cpu_count() or 1) + 1) if units % parts == 0)


def use_cores(parts: int) -> None:
    """Present the CPU as `parts` devices that compute in parallel; accelerators are not affected.

    XLA runs most of a step of small convolutions on one core. This has no effect once JAX has started.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", parts)


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Place this host's share of a global batch on its devices, split along the first axis.

    Raises:
      ValueError: the batch cannot be split equally over the devices.
    """
    count = next(iter(batch.values())).shape[0] * jax.process_count()
    if count % mesh.size:
        raise ValueError(
            f"a batch of {count} cannot be split over {mesh.size} devices; set config.batch_size accordingly"
        )
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    # This transfer is intended, also under a guard against implicit transfers.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree, mesh: Mesh):
    """Copy the first host's values to every device."""
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere(mesh))
    from jax.experimental import multihost_utils

    def place(x):
        return jax.make_array_from_callback(x.shape, everywhere(mesh), lambda index: x[index])

    return jax.tree.map(place, multihost_utils.broadcast_one_to_all(tree))


def to_host(x: jax.Array) -> np.ndarray:
    """A global array, split over hosts or not, as a numpy array on every host."""
    if x.is_fully_addressable:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x, tiled=True)
