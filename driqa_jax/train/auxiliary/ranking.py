"""Rank pairs of stage 2: a crop at two levels of one degradation, of which the worse must score lower.

They are at two levels of an ordered type, or a crop as it is and badly restored, whether or not more of that is always
worse. They keep the score honest where a labelled set has few examples. The crops are the batch's own tiles, each seen
as a photograph of its own, and degraded on the device. They take no part in the losses of human scores.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax import degradations, losses
from driqa_jax.data.views import ViewRule
from driqa_jax.degradations import DEGRADATIONS, NAMES, Chain
from driqa_jax.degradations.recipes import BADLY_RESTORED
from driqa_jax.degradations.registry import find
from driqa_jax.errors import UserError
from driqa_jax.inference.functional import views_of
from driqa_jax.train import rng

ORDERED = tuple(entry for entry in DEGRADATIONS if entry.ordered)
LEVELS = 5
APART = 1.0  # the least distance of a pair's levels; KADID-10k's neighbours are that far apart
PRISTINE = 0.25  # how often the better one is the crop as it is

# Every type that a pair can be of; a bad restoration stands beside the crop as it is alone.
_DRAWN = (*ORDERED, *(find(name) for name in BADLY_RESTORED))
_LIKE_PRISTINE = np.arange(len(_DRAWN)) >= len(ORDERED)
# Severity at levels 0 (the crop as it is) to 5: KADID-10k's own, where it has the type.
_SEVERITIES = np.array([(0.0, *(e.kadid_levels or np.arange(1, LEVELS + 1) / LEVELS)) for e in _DRAWN], np.float32)


def draw(key: jax.Array, often: tuple[tuple[str, int], ...] = ()) -> tuple[jax.Array, jax.Array]:
    """One pair: its type's place in `NAMES`, int32, and the severities of the better and the worse, float32 (2,).

    `often`: types that are drawn so many times as often as the others.
    """
    which, low, high, pristine = jax.random.split(key, 4)
    lots = np.repeat(np.arange(len(_DRAWN)), [dict(often).get(entry.name, 1) for entry in _DRAWN])
    row = jnp.asarray(lots)[jax.random.randint(which, (), 0, len(lots))]
    better = jax.random.uniform(low, maxval=LEVELS - APART)
    better = jnp.where(jnp.asarray(_LIKE_PRISTINE)[row] | jax.random.bernoulli(pristine, PRISTINE), 0.0, better)
    worse = jax.random.uniform(high, minval=better + APART, maxval=LEVELS)
    levels = jnp.stack([better, worse])
    severities = jnp.interp(levels, jnp.arange(LEVELS + 1.0), jnp.asarray(_SEVERITIES)[row])
    places = jnp.array([NAMES.index(entry.name) for entry in _DRAWN], jnp.int32)
    return places[row], severities


def require_often(often: tuple[tuple[str, int], ...]) -> None:
    """Raises UserError for a type that no pair can be of, and for what is no count."""
    names = [entry.name for entry in _DRAWN]
    for pair in often:
        good = isinstance(pair, (tuple, list)) and len(pair) == 2 and pair[0] in names and type(pair[1]) is int
        if not good or pair[1] < 0:
            raise UserError(
                f"config.rank.often: {pair!r} is no pair of a type and how often, as (('halo', 2),); the types are "
                f"{', '.join(names)}"
            )
    if not any(dict(often).get(name, 1) for name in names):
        raise UserError("config.rank.often leaves no type to draw; give one of them more than 0")


def require_pairs(config: ml_collections.ConfigDict, count: int) -> None:
    """Raises UserError where a device's `count` examples are not whole groups of `config.rank.every`."""
    if config.rank.every < 1 or count % config.rank.every:
        raise UserError(
            f"config.rank.every={config.rank.every} does not divide the {count} examples a device reads at a time; "
            "set config.batch_size to a multiple of devices * accumulate * every, or config.loss.rank to 0"
        )


def views(config: ml_collections.ConfigDict, rule: ViewRule, batch: dict, step) -> dict[str, jax.Array]:
    """Views of the pairs that a batch gives, in the form of the batch: 2 P pictures, the better ones first.

    Every `config.rank.every`-th example gives a pair, made of its first tile. All that is drawn hangs on (seed, step,
    index) alone, and both pictures of a pair have it in common.

    Args:
      rule: by which the batch's views were made.
      batch: `whole` uint8 (B, H, W, 3), `tiles` uint8 (B, K, S, S, 3), `index` int32 (B,).

    Returns:
      `whole`, `valid`, `tiles` and `tile_boxes`, as `data.views.make_view` gives them of a picture of S x S, and
      `index` of the photo that each was made of.

    Raises:
      UserError: B is no multiple of `config.rank.every`.
    """
    require_pairs(config, batch["index"].shape[0])
    crops = batch["tiles"][:: config.rank.every, 0]
    index = batch["index"][:: config.rank.every]
    drawn_by = rng.per_example(rng.stream(config.seed, "rank", step), index)
    kinds, severities = jax.vmap(lambda key: draw(key, config.rank.often))(drawn_by)
    keys = rng.per_example(rng.stream(config.seed, "rank degradation", step), index)
    drawn = tuple(dict.fromkeys(entry.name for entry in _DRAWN))

    def one(inputs):
        key, crop, kind, severity = inputs
        chain = Chain(kind.reshape(1, 1), severity.reshape(1, 1))
        photo = crop[None].astype(jnp.float32) / 255.0
        return degradations.apply_chains(key, photo, chain, jnp.zeros(1, jnp.int32), names=drawn)[0, 0]

    pairs = jax.tree.map(lambda x: jnp.concatenate([x, x]), (keys, crops, kinds))
    pictures = jax.lax.map(one, (*pairs, severities.T.reshape(-1)))
    return {**_seen(pictures, rule, batch), "index": jnp.concatenate([index, index])}


def read(config: ml_collections.ConfigDict, own: jax.Array, made: jax.Array) -> dict[str, jax.Array]:
    """Scores (P,) each of the better and the worse."""
    del config, own
    better, worse = jnp.split(made, 2)
    return {"better": better, "worse": worse}


def compare(seen: dict[str, jax.Array]) -> jax.Array:
    """How far the worse ones are from being clearly below."""
    return losses.rank_hinge(seen["better"], seen["worse"])


def together(config: ml_collections.ConfigDict) -> int:
    """So many neighbouring examples make whole pairs."""
    return config.rank.every


def _seen(pictures, rule, batch):
    # The tiles of a crop are cut from a picture of the rule's size already, and must not be resized again.
    rule = dataclasses.replace(rule, short=rule.tile) if rule.kind == "crop" else rule
    found = views_of(jnp.clip(pictures, 0.0, 1.0), rule, batch["whole"].shape[1:3])
    return found | {name: jnp.rint(255.0 * found[name]).astype(jnp.uint8) for name in ("whole", "tiles")}
