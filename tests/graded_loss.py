"""The loss of stage 2 on one batch, its terms and its gradient, of any model and on one device."""

import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax import distributed
from driqa_jax.train.auxiliary import rs_terms
from driqa_jax.train.stages import finetune


def graded(config, look, rule, batch):
    """((value, terms), gradient) of `finetune.loss_of` without an RS loss, at step 0 and a parameter `scale` of 1."""
    loss = finetune.loss_of(ml_collections.FrozenConfigDict(config), look, rs_terms.OF_SCORES["none"], rule)
    slope = jax.value_and_grad(lambda p, batch: loss(p, batch, 0), has_aux=True)
    mesh, everywhere = distributed.make_mesh(jax.devices()[:1]), jax.sharding.PartitionSpec()
    mapped = jax.shard_map(slope, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)
    return jax.jit(mapped)({"scale": jnp.ones(())}, batch)
