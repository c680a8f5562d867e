"""The executors that run the per-device step on all devices; step, loss and gradients are the same under each."""

import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from driqa_jax.distributed.collectives import AXIS

REPLICATED, SPLIT = PartitionSpec(), PartitionSpec(AXIS)


def map_step(step: Callable, mesh: Mesh, executor: str = "shard_map") -> Callable:
    """Compile `step(state, batch) -> (state, metrics)` for all devices.

    State and metrics are replicated, and the state is donated. Every leaf of the batch is split along its first axis.
    `executor` is a key of `EXECUTORS`.
    """
    return EXECUTORS[executor](step, mesh)


def under_shard_map(step: Callable, mesh: Mesh) -> Callable:
    """The step under `jax.shard_map`, as one jitted program over global arrays."""
    # The collectives of the step keep the outputs replicated. With check_vma JAX would sum the gradients of
    # replicated parameters a second time.
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(REPLICATED, SPLIT), out_specs=(REPLICATED, REPLICATED), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)


def under_pmap(step: Callable, mesh: Mesh) -> Callable:
    """The step under `jax.pmap`, whose arrays are local to a host and have a leading axis of devices."""
    from jax.experimental import multihost_utils

    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=tuple(mesh.devices.flat),
    )
    one_process = jax.process_count() == 1
    devices = mesh.local_mesh.size

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh.local_mesh, SPLIT))
    def by_device(batch):
        return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)

    def train_step(state, batch):
        if one_process:
            return mapped(state, by_device(batch))
        batch = by_device(multihost_utils.global_array_to_host_local_array(batch, mesh, SPLIT))
        # Global arrays again, so that saving and evaluation do not depend on the executor.
        return multihost_utils.host_local_array_to_global_array(mapped(state, batch), mesh, REPLICATED)

    return train_step


EXECUTORS = {"shard_map": under_shard_map, "pmap": under_pmap}
