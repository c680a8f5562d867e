"""Who runs the per-device step on all devices. The step, its loss and its gradients are the same under each."""

import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from driqa_jax.distributed.collectives import AXIS

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXIS)


def map_step(step: Callable, mesh: Mesh, executor: str = "shard_map") -> Callable:
    """Compile `step(state, batch) -> (state, metrics)` for all devices.

    The state and the metrics are replicated, the state is donated; every leaf of the batch is split along its first
    axis. `executor` is one of `EXECUTORS`.
    """
    return EXECUTORS[executor](step, mesh)


def under_shard_map(step: Callable, mesh: Mesh) -> Callable:
    """The step in one jitted program over global arrays."""
    # Replication is kept by the explicit collectives of the step. With the automatic check JAX would sum the
    # gradients of replicated parameters itself, a second time.
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(EVERYWHERE, SPLIT), out_specs=(EVERYWHERE, EVERYWHERE), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)


def under_pmap(step: Callable, mesh: Mesh) -> Callable:
    """The step under `jax.pmap`, whose arrays are a host's own and have an axis of devices before all others."""
    from jax.experimental import multihost_utils

    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=tuple(mesh.devices.flat),
    )
    alone = jax.process_count() == 1
    devices = mesh.local_mesh.size

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh.local_mesh, SPLIT))
    def by_device(batch):
        return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)

    def advance(state, batch):
        if alone:
            return mapped(state, by_device(batch))
        batch = by_device(multihost_utils.global_array_to_host_local_array(batch, mesh, SPLIT))
        # Global again: what is saved and evaluated knows nothing of who ran the step.
        return multihost_utils.host_local_array_to_global_array(mapped(state, batch), mesh, EVERYWHERE)

    return advance


EXECUTORS = {"shard_map": under_shard_map, "pmap": under_pmap}
