"""One program on all devices of all hosts: the mesh, the collectives inside a step, and who runs the step.

The rule that keeps values *and gradients* the same on any number of devices: a step's loss is a share, so that the
shares of all devices add up to the loss of the global batch. A loss that compares samples is computed in full from
gathered arrays on every device and divided by their number; the transpose of the gather brings back what the other
devices owe, and the gradients are then summed once.
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
