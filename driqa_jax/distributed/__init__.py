"""One program on all devices of all hosts: the mesh, the collectives of a step, and the executors that run it.

One rule keeps values and gradients equal on any number of devices: a step's loss is a share, and the shares of all
devices add up to the loss of the global batch. A loss that compares samples is computed in full on every device, from
gathered arrays, and divided by the number of devices. The transpose of the gather returns the cotangents from the
other devices, and the gradients are summed once.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"
REPLICATED, SPLIT = PartitionSpec(), PartitionSpec(AXIS)


def gather(x: jax.Array, axis: int = 0) -> jax.Array:
    """Concatenate the pieces of all devices along `axis`, in the order of the global batch."""
    return lax.all_gather(x, AXIS, axis=axis, tiled=True)


def local_slice(x: jax.Array, axis: int = 0) -> jax.Array:
    """This device's piece of a gathered array."""
    size = x.shape[axis] // lax.axis_size(AXIS)
    return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size, axis)


def share(global_value: jax.Array) -> jax.Array:
    """This device's share of a value that every device holds in full."""
    return global_value / lax.axis_size(AXIS)


def total(tree: Any) -> Any:
    """The sum over devices of every leaf."""
    return lax.psum(tree, AXIS)


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

    Raises ValueError if the batch cannot be split equally over the devices.
    """
    count = next(iter(batch.values())).shape[0] * jax.process_count()
    if count % mesh.size:
        raise ValueError(
            f"a batch of {count} cannot be split over {mesh.size} devices; set config.batch_size accordingly"
        )
    sharding = NamedSharding(mesh, SPLIT)
    # This transfer is intended, also under a guard against implicit transfers.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device holds in full."""
    return NamedSharding(mesh, REPLICATED)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copy the first host's values to every device."""
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere(mesh))

    def place(x):
        return jax.make_array_from_callback(x.shape, everywhere(mesh), lambda index: x[index])

    return jax.tree.map(place, multihost_utils.broadcast_one_to_all(tree))


def to_host(x: jax.Array) -> np.ndarray:
    """A global array, split over hosts or not, as a numpy array on every host."""
    return np.asarray(x) if x.is_fully_addressable else multihost_utils.process_allgather(x, tiled=True)


def map_step(step: Callable, mesh: Mesh, executor: str = "shard_map") -> Callable:
    """Compile `step(state, batch) -> (state, metrics)` for all devices.

    State and metrics are replicated, and the state is donated. Every leaf of the batch is split along its first axis.
    `executor` is a key of `EXECUTORS`.
    """
    return EXECUTORS[executor](step, mesh)


def _under_shard_map(step: Callable, mesh: Mesh) -> Callable:
    """The step as one jitted program over global arrays."""
    # The collectives of the step keep the outputs replicated. With check_vma JAX would sum the gradients of
    # replicated parameters a second time.
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(REPLICATED, SPLIT), out_specs=(REPLICATED, REPLICATED), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)


def _under_pmap(step: Callable, mesh: Mesh) -> Callable:
    """The step under `jax.pmap`, whose arrays are local to a host and have a leading axis of devices."""
    axes = {"axis_name": AXIS, "in_axes": (None, 0), "out_axes": (None, None)}
    mapped = jax.pmap(step, **axes, donate_argnums=0, devices=tuple(mesh.devices.flat))
    devices = mesh.local_mesh.size

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh.local_mesh, SPLIT))
    def by_device(batch):
        return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)

    def train_step(state, batch):
        if jax.process_count() == 1:
            return mapped(state, by_device(batch))
        batch = by_device(multihost_utils.global_array_to_host_local_array(batch, mesh, SPLIT))
        # Global arrays again, so that saving and evaluation do not depend on the executor.
        return multihost_utils.host_local_array_to_global_array(mapped(state, batch), mesh, REPLICATED)

    return train_step


EXECUTORS = {"shard_map": _under_shard_map, "pmap": _under_pmap}
