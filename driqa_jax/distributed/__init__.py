"""One program on all devices of all hosts: the mesh, the collectives of a step, and the executors that run it.

One rule keeps values and gradients equal on any number of devices: a step's loss is a share, and the shares of all
devices add up to the loss of the global batch. A loss that compares samples is computed in full on every device, from
gathered arrays, and divided by the number of devices. The transpose of the gather returns the cotangents from the
other devices, and the gradients are summed once.
"""

from driqa_jax.distributed.collectives import AXIS, gather, local_slice, share, total
from driqa_jax.distributed.devices import (
    everywhere,
    make_mesh,
    place_batch,
    replicate,
    side_by_side,
    to_host,
    use_cores,
)
from driqa_jax.distributed.executors import EXECUTORS, map_step

__all__ = [
    "AXIS",
    "EXECUTORS",
    "everywhere",
    "gather",
    "local_slice",
    "make_mesh",
    "map_step",
    "place_batch",
    "replicate",
    "share",
    "side_by_side",
    "to_host",
    "total",
    "use_cores",
]
