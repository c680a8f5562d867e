"""The term of twins in stage 2: a picture and its twin, which differ in nothing that a person sees, score the same.

The loader makes them, see `data.twins`. They take no part in the losses of human scores.
"""

import jax
import ml_collections

from driqa_jax import losses
from driqa_jax.data.perturbed_pairs import PREFIX, Twins
from driqa_jax.data.views import ViewRule
from driqa_jax.errors import UserError


def wanted(config: ml_collections.ConfigDict) -> Twins | None:
    """The twins that the loader shall make; None where no loss reads them. Raises UserError for ones that cannot be."""
    if not config.loss.same:
        return None
    group = config.twins.every * config.accumulate * jax.device_count()
    if config.twins.every > 0 and config.batch_size % group:
        raise UserError(
            f"config.twins.every={config.twins.every} does not divide what each of {jax.device_count()} devices reads "
            f"at a time; set config.batch_size to a multiple of {group}, or config.loss.same to 0"
        )
    try:
        return Twins(**config.twins.to_dict())
    except ValueError as error:
        raise UserError(f"config.twins.{error}") from None


def views(config: ml_collections.ConfigDict, rule: ViewRule, batch: dict, step) -> dict[str, jax.Array]:
    """The views of the batch's twins, and `index` of the photo that each is of."""
    del rule, step
    found = {name.removeprefix(PREFIX): x for name, x in batch.items() if name.startswith(PREFIX)}
    return found | {"index": batch["index"][:: config.twins.every]}


def read(config: ml_collections.ConfigDict, own: jax.Array, made: jax.Array) -> dict[str, jax.Array]:
    """Scores (P,) each of the pictures and of their twins."""
    return {"picture": own[:: config.twins.every], "twin": made}


def compare(seen: dict[str, jax.Array]) -> jax.Array:
    """Their mean distance, in units of MOS."""
    return losses.mos_l1(seen["twin"], seen["picture"])


def together(config: ml_collections.ConfigDict) -> int:
    """So many neighbouring examples make whole pairs."""
    return config.twins.every
