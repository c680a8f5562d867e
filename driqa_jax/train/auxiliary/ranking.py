"""The ranking loss of stage 2: of two degraded versions of a crop, the worse must score lower.

A pair is a crop at two levels of an ordered degradation, or a crop as it is and badly restored. It keeps the score
ordered by degradation where the labeled set has few examples. The crops are tiles of the batch, each treated as an
image and degraded on the device. They have no part in the losses of human scores.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from driqa_jax import degradations
from driqa_jax.data.views import ViewRule
from driqa_jax.degradations import DEGRADATIONS, NAMES, Chain
from driqa_jax.degradations.recipes import BADLY_RESTORED
from driqa_jax.degradations.registry import find
from driqa_jax.errors import UserError
from driqa_jax.inference.functional import views_of
from driqa_jax.train import rng

ORDERED = tuple(entry for entry in DEGRADATIONS if entry.ordered)
LEVELS = 5
LEAST_DISTANCE = 1.0  # between the levels of a pair; adjacent levels of KADID-10k differ by this much
PRISTINE = 0.25  # probability that the better one is the crop as it is

# Every type that a pair can have. A bad restoration is compared only with the crop as it is.
_TYPES = (*ORDERED, *(find(name) for name in BADLY_RESTORED))
_AGAINST_PRISTINE = np.arange(len(_TYPES)) >= len(ORDERED)
# Severity at levels 0 (the crop as it is) to 5: those of KADID-10k where it has the type.
_SEVERITIES = np.array([(0.0, *(e.kadid_levels or np.arange(1, LEVELS + 1) / LEVELS)) for e in _TYPES], np.float32)


def draw(key: jax.Array, often: tuple[tuple[str, int], ...] = ()) -> tuple[jax.Array, jax.Array]:
    """Draw a pair: the index of its type in `NAMES`, int32, and severities (2,) float32, the better one first.

    `often`: (type, n) draws the type n times as often as the others.
    """
    which, low, high, pristine = jax.random.split(key, 4)
    lots = np.repeat(np.arange(len(_TYPES)), [dict(often).get(entry.name, 1) for entry in _TYPES])
    row = jnp.asarray(lots)[jax.random.randint(which, (), 0, len(lots))]
    better = jax.random.uniform(low, maxval=LEVELS - LEAST_DISTANCE)
    better = jnp.where(jnp.asarray(_AGAINST_PRISTINE)[row] | jax.random.bernoulli(pristine, PRISTINE), 0.0, better)
    worse = jax.random.uniform(high, minval=better + LEAST_DISTANCE, maxval=LEVELS)
    levels = jnp.stack([better, worse])
    severities = jnp.interp(levels, jnp.arange(LEVELS + 1.0), jnp.asarray(_SEVERITIES)[row])
    numbers = jnp.array([NAMES.index(entry.name) for entry in _TYPES], jnp.int32)
    return numbers[row], severities


def require_valid(config: ConfigDict) -> None:
    """Raises UserError unless `rank.often` holds pairs of a type that can be drawn and a count, and leaves a type."""
    often = config.rank.often
    names = [entry.name for entry in _TYPES]
    for pair in often:
        good = isinstance(pair, (tuple, list)) and len(pair) == 2 and pair[0] in names and type(pair[1]) is int
        if not good or pair[1] < 0:
            raise UserError(
                f"config.rank.often: expected pairs of a type and a count, as (('halo', 2),), got {pair!r}; the type "
                f"must be one of {', '.join(names)}"
            )
    if not any(dict(often).get(name, 1) for name in names):
        raise UserError("config.rank.often leaves no type to draw; give one of them more than 0")


def views(config: ConfigDict, rule: ViewRule, batch: dict, step: jax.Array) -> dict[str, jax.Array]:
    """Views of the 2 P images of the batch's pairs, the better ones first.

    The first tile of every `config.rank.every`-th example makes a pair. The draw depends only on (seed, step, index);
    both images of a pair share it.

    `batch`: `whole` uint8 (B, H, W, 3), `tiles` uint8 (B, K, S, S, 3) and `index` int32 (B,), made with `rule`. Returns
    `whole`, `valid`, `tiles` and `tile_boxes`, as `data.views.make_view` gives them for an S x S image, and the `index`
    of the example of each. Raises UserError if B is not a multiple of `config.rank.every`.
    """
    every, count = config.rank.every, batch["index"].shape[0]
    if every < 1 or count % every:
        raise UserError(
            f"config.rank.every={every} does not divide the {count} examples a device reads at a time; "
            "set config.batch_size to a multiple of devices * accumulate * every, or config.loss.rank to 0"
        )
    crops, index = batch["tiles"][::every, 0], batch["index"][::every]
    draw_keys = rng.per_example(rng.stream(config.seed, "rank", step), index)
    types, severities = jax.vmap(lambda key: draw(key, config.rank.often))(draw_keys)
    keys = rng.per_example(rng.stream(config.seed, "rank degradation", step), index)
    names = tuple(dict.fromkeys(entry.name for entry in _TYPES))

    def degrade(inputs):
        key, crop, kind, severity = inputs
        chain = Chain(kind.reshape(1, 1), severity.reshape(1, 1))
        image = crop[None].astype(jnp.float32) / 255.0
        return degradations.apply_chains(key, image, chain, jnp.zeros(1, jnp.int32), names=names)[0, 0]

    pairs = jax.tree.map(lambda x: jnp.concatenate([x, x]), (keys, crops, types))
    images = jax.lax.map(degrade, (*pairs, severities.T.reshape(-1)))
    return {**_views_of(images, rule, batch), "index": jnp.concatenate([index, index])}


def read(config: ConfigDict, own: jax.Array, made: jax.Array) -> tuple[jax.Array, jax.Array]:
    """MOS (P,) of the better and of the worse images."""
    del config, own
    better, worse = jnp.split(made, 2)
    return better, worse


def _views_of(images, rule, batch):
    # A crop's tile already has the rule's size and must not be resized again.
    rule = dataclasses.replace(rule, short=rule.tile) if rule.kind == "crop" else rule
    views = views_of(jnp.clip(images, 0.0, 1.0), rule, batch["whole"].shape[1:3])
    return views | {name: jnp.rint(255.0 * views[name]).astype(jnp.uint8) for name in ("whole", "tiles")}
