"""The consistency loss of stage 2: an image and its imperceptibly perturbed twin must score the same.

The loader makes the twins, see `data.perturbed_pairs`. They have no part in the losses of human scores.
"""

import jax
from ml_collections import ConfigDict

from driqa_jax.data.perturbed_pairs import PREFIX, Twins
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError, user_errors


def configured_twins(config: ConfigDict) -> Twins | None:
    """The twins that the loader must make; None if no loss reads them. Raises UserError for invalid settings."""
    if not config.loss.same:
        return None
    group = config.twins.every * config.accumulate * jax.device_count()
    if config.twins.every > 0 and config.batch_size % group:
        raise UserError(
            f"config.twins.every={config.twins.every} does not divide what each of {jax.device_count()} devices reads "
            f"at a time; set config.batch_size to a multiple of {group}, or config.loss.same to 0"
        )
    with user_errors("config.twins.{}"):
        return Twins(**config.twins.to_dict())


def views(config: ConfigDict, rule: ViewRule, batch: dict, step: jax.Array) -> dict[str, jax.Array]:
    """The views of the batch's twins, and the `index` of the image of each."""
    del rule, step
    twins = {name.removeprefix(PREFIX): x for name, x in batch.items() if name.startswith(PREFIX)}
    return twins | {"index": batch["index"][:: config.twins.every]}


def read(config: ConfigDict, own: jax.Array, made: jax.Array) -> tuple[jax.Array, jax.Array]:
    """MOS (P,) of the twins and of their images."""
    return made, own[:: config.twins.every]
