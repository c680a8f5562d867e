"""The form "deduction": a quality level, and a ceiling that visible degradations put on it.

The level reads moments of the frozen quality backbone over the image. Each cell of 32x32 pixels has a visible drop per
type, read from its own moments and from the degradation vectors of the tiles near it. The drops of a cell multiply to
its ceiling, the image's ceiling pools those of its cells, and the score is the soft minimum of level and ceiling. A
product of both would deduct the same fault twice: the level is already low if the backbone sees the fault. A model
fitted to own ratings adds a linear residual to the level, see `driqa_jax.train.residual`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from driqa_jax.models.degradation_encoder import Degradation
from driqa_jax.models.layers import Dense, Standardize, cell_coordinates, dropout, valid_mask
from driqa_jax.models.quality_encoder import STRIDE

FLOOR = 0.05  # the score of an image whose visible drop is complete
# Half of the observers call a drop visible that takes the human mean of KADID-10k from 4.6 to 4.0 on its scale of 3.6
# points. The width is that of the observers' disagreement, .35 points.
VISIBLE, VISIBLE_WIDTH = 1 / 6, 0.1
_MOST = 0.995  # a drop of 1 has no logarithm
_SHARPNESS = 8.0  # of the nearest tile: a deviation of a quarter of a tile
_MIDDLE = 0.15  # standard deviation of the middle of an image, in fractions of its sides
_WORST = 3  # order of the power mean over cells
SOUND = 0.7  # a level from which on nothing is missing that a fault would explain
EVIDENCE = 0.03  # a loss at which the evidence for a fault explains half of what the level lacks
SHRINKAGE = 1.05  # a fitted drop is less than what is seen: it is a mean over images with the fault and without


class Deduction(NamedTuple):
    """`mos`, `level`, `ceiling`, `keep` (B,); `drops` (B, N, T) in [0, 1), the visible drop of each cell and type.

    `cell_keep` (B, N) in (0, 1]: what the drops of one cell leave of the ceiling. `keep` pools it over the image, as
    `drop` (B, T) pools `drops`.
    """

    mos: jax.Array
    level: jax.Array
    ceiling: jax.Array
    keep: jax.Array
    drop: jax.Array
    drops: jax.Array
    cell_keep: jax.Array


class Places(NamedTuple):
    """Where tiles and cells lie.

    `near` (B, N, K), sum 1 over K, how close each tile is to a cell; `central` (B, N) in (0, 1], how close a cell is to
    the middle of the image, where subjects are; `mask` (B, N) bool, true for cells inside the image.
    """

    near: jax.Array
    central: jax.Array
    mask: jax.Array

    @classmethod
    def of(cls, cells: jax.Array, boxes: jax.Array, mask: jax.Array) -> "Places":
        """Of cells at `cells` (B, N, 2) and tiles in `boxes` (B, K, 4), fractions of the image; `mask` (B, N) bool."""
        start, end = boxes[:, None, :, :2], boxes[:, None, :, 2:]
        distance = (cells[:, :, None, :] - (start + end) / 2) / (end - start)
        near = nn.softmax(-_SHARPNESS * jnp.square(distance).sum(axis=-1), axis=-1)
        return cls(near, jnp.exp(-jnp.square((cells - 0.5) / _MIDDLE).sum(axis=-1) / 2), mask)


class DeductionHead(nn.Module):
    """The head.

    Attributes:
      types: T, the number of degradation types.
      level_width, drop_width: hidden units of the two branches.
      context_width: size of the summary of the image that its cells read; small, so that photographs look alike in it.
      shares: (T,) how much of each type's drop counts; empty: all of it. Less counts of what may be intended: a pale
        photograph is not a bad one.
      causes: (T,) 1 for types that may be the reason of a low level, else 0; empty: none may.
      groups: (T,) the number of each type's group: types of a group are alternatives; empty: a group for each.
      top: the ceiling of an image without a visible degradation.
      temperature: of the soft minimum, in units of the score.
      level_dropout, drop_dropout: rates on the hidden units, in training.
      residual: whether the level has a linear residual of `read`; weights without it have no parameters for it.
    """

    types: int
    level_width: int = 128
    drop_width: int = 128
    context_width: int = 8
    shares: tuple[float, ...] = ()
    causes: tuple[float, ...] = ()
    groups: tuple[int, ...] = ()
    top: float = 0.85
    temperature: float = 0.03
    level_dropout: float = 0.5
    drop_dropout: float = 0.3
    residual: bool = False

    def setup(self):
        self.standardize_moments, self.standardize_cells, self.standardize_vectors = (Standardize() for _ in range(3))
        for name in ("shares", "causes", "groups"):
            if (count := len(getattr(self, name))) not in (0, self.types):
                raise ValueError(f"{name} must be empty or have {self.types} values, got {count}")
        # A small start keeps the function of thousands of correlated moments smooth.
        small = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.level_hidden = Dense(self.level_width, small)
        self.level_out = Dense(1, bias_init=nn.initializers.constant(0.7))
        self.drop_of_cells, self.drop_of_vectors = Dense(self.drop_width), Dense(self.drop_width)
        self.drop_context, self.drop_of_context = Dense(self.context_width), Dense(self.drop_width)
        # Training starts with almost no drop.
        self.drop_out = Dense(self.types, bias_init=nn.initializers.constant(-4.0))
        if self.residual:
            self.residual_out = Dense(1, nn.initializers.zeros)

    def __call__(
        self,
        moments: jax.Array,
        cells: jax.Array,
        vectors: jax.Array,
        places: Places,
        keys: jax.Array | None = None,
    ) -> Deduction:
        """Score images.

        Args:
          moments, cells: (B, F) and (B, N, F'') of the quality backbone, see `QualityEncoder.moments`.
          vectors: (B, K, C) degradation vectors of K tiles.
          places: of cells and tiles.
          keys: (B,) random keys in training, else None.
        """
        level = self.level(moments, keys)
        if self.residual:
            level = level + self.residual_out(self.read(moments, vectors))[:, 0]
        return self.deduct(level, cells, vectors, places, keys)

    def read(self, moments: jax.Array, vectors: jax.Array) -> jax.Array:
        """What a residual is linear in, (B, F + level_width + C): standardized moments, `quality`, mean vector."""
        vector = self.standardize_vectors(vectors).mean(axis=1)
        return jnp.concatenate([self.standardize_moments(moments), self.quality(moments), vector], axis=1)

    def quality(self, moments: jax.Array) -> jax.Array:
        """The quality vector (B, level_width) of `moments` (B, F): the hidden units of the level."""
        return nn.gelu(self.level_hidden(self.standardize_moments(moments)))

    def level(self, moments: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """The quality level (B,) of `moments` (B, F), without a residual."""
        return self.level_out(dropout(self.quality(moments), keys, self.level_dropout))[:, 0]

    def deduct(
        self,
        level: jax.Array,
        cells: jax.Array,
        vectors: jax.Array,
        places: Places,
        keys: jax.Array | None = None,
    ) -> Deduction:
        """The score of a given `level` (B,) under the drops."""
        drops = nn.sigmoid(self.drop_logits(cells, vectors, places, keys))
        lost = lost_of(drops)
        cell_lost = (lost * jnp.asarray(self.shares or (1.0,) * self.types)[None, None, :]).sum(axis=2)
        keep = jnp.exp(-pooled(cell_lost[..., None], places.mask)[:, 0])
        drop = 1 - jnp.exp(-pooled(lost, places.mask))
        return Deduction(self.capped(level, keep), level, self.ceiling(keep), keep, drop, drops, jnp.exp(-cell_lost))

    def drop_logits(
        self, cells: jax.Array, vectors: jax.Array, places: Places, keys: jax.Array | None = None
    ) -> jax.Array:
        """Logits (B, N, T) of the drops.

        The common hidden layer reads what the content of a cell hides or shows of what the tiles near it hold: this is
        the interaction of both representations.
        """
        tiles = self.drop_of_vectors(self.standardize_vectors(vectors))
        cells = jnp.where(places.mask[..., None], self.standardize_cells(cells), 0.0)
        hidden = self.drop_of_cells(cells) + self.context(cells, places)[:, None, :]
        hidden = nn.gelu(hidden + jnp.einsum("bnk,bkw->bnw", places.near, tiles))
        if keys is not None:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
            # The same units in all cells: dropped cell by cell, their mean would hardly change.
            hidden = hidden * dropout(jnp.ones_like(hidden[:, 0]), keys, self.drop_dropout)[:, None, :]
        return self.drop_out(hidden)

    def context(self, cells: jax.Array, places: Places) -> jax.Array:
        """What every cell reads of its image, (B, W): a summary of all cells (B, N, F''), 0 outside the image."""
        # Without it a dark cell could not be told from a dark image, nor a blurred background from a missed focus.
        central = places.central * places.mask
        middle = jnp.einsum("bn,bnf->bf", central, cells) / central.sum(axis=1)[:, None]
        mean = cells.sum(axis=1) / places.mask.sum(axis=1)[:, None]
        return self.drop_of_context(self.drop_context(jnp.concatenate([mean, middle], axis=1)))

    def gain(self, level: jax.Array, drop: jax.Array) -> jax.Array:
        """How many times what an image loses by each type is seen, (B, T), at `level` (B,) and under `drop` (B, T).

        The likeliest type of a group is seen with what all of them lose, because they are mistaken for each other:
        sum(lost)^2 / sum(lost^2) is their number if they are equally likely, and 1 if one is.

        The level of a real photograph is low by faults of which the drops find but traces. What it lacks is shared out
        over `causes` in proportion to these traces, and less of it where they are few.
        """
        lost = lost_of(drop)
        alternatives = jnp.square(lost @ self.same) / (jnp.square(lost) @ self.same + 1e-12)
        lacks = nn.relu(jnp.log((SOUND - FLOOR) / jnp.maximum(level - FLOOR, 0.02)))[:, None]
        explained = lacks / (lost.sum(axis=1, keepdims=True) + EVIDENCE)
        return SHRINKAGE * alternatives * (1 + explained * jnp.asarray(self.causes or (0.0,) * self.types)[None, :])

    @property
    def same(self) -> np.ndarray:
        """(T, T) float32, 1 for two types of one group."""
        groups = np.asarray(self.groups or range(self.types))
        return (groups[:, None] == groups[None, :]).astype(np.float32)

    def ceiling(self, keep: jax.Array) -> jax.Array:
        """The ceiling of which a share `keep` in (0, 1] is left; any shape."""
        return FLOOR + (self.top - FLOOR) * keep

    def capped(self, level: jax.Array, keep: jax.Array) -> jax.Array:
        """The score of `level` under `ceiling(keep)`; shapes that broadcast."""
        return soft_minimum(level, self.ceiling(keep), self.temperature)


class DeductionModel(nn.Module):
    """The whole model of this form. It has no restoration network."""

    degradation_encoder: nn.Module
    quality_encoder: nn.Module
    head: DeductionHead

    # See `driqa_jax.models.driqa.DRIQA`.
    stages = ("read_degradation", "read_quality", "read_score")
    restores = False
    explained_tiles = 36

    def encode_degradation(self, tiles: jax.Array) -> Degradation:
        """Run `E_d` on `tiles` (M, H, W, 3) float in [0, 1]."""
        return self.degradation_encoder(tiles)

    def __call__(
        self,
        whole: jax.Array,
        valid: jax.Array,
        tiles: jax.Array,
        tile_boxes: jax.Array,
        keys: jax.Array | None = None,
        per_tile: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Score photos; arguments as for `DRIQA`.

        Returns:
          mos (B,), on the training scale, and `out`:

          level, ceiling (B,): the quality level, and the score that it cannot exceed;
          drops (B, h, w, T): the drop in [0, 1) that is seen of each type in each cell of 32x32 pixels, see
          `DeductionHead.gain`; cell_visibility (B, h, w, T) in [0, 1]: the probability that a person sees it;
          severity, visibility (B, T): the same of the image; degradation_logits (B, T): the logit of the latter;
          d (B, C), q (B, Q): the mean degradation vector, and the hidden units of the level;
          moments (B, F), cells (B, h, w, F''), vector (B, K, C): what the head reads;
          patch_scores, patch_weights (B, h, w) and patch_mask (B, h, w) bool: the quality map. A cell has the score of
          the level under its own ceiling; weights are 1 inside the image and 0 outside;
          per_tile_mos, per_tile_ceiling (B, K): the MOS under the ceiling of cells near each tile, and that ceiling.
        """
        del per_tile  # costs nothing here
        views = {"whole": whole, "valid": valid, "tiles": tiles, "tile_boxes": tile_boxes}
        read = {**self.read_degradation(views), **self.read_quality(views)}
        mos, out = self.read_score({**views, **read}, keys)
        return mos, {**out, **read}

    def read_degradation(self, views: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """`vector` (B, K, C) of the tiles."""
        tiles = views["tiles"]
        vector = self.degradation_encoder(tiles.reshape(-1, *tiles.shape[2:])).vector
        return {"vector": vector.reshape(*tiles.shape[:2], -1)}

    def read_quality(self, views: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """`moments` (B, F) of the whole image, and `cells` (B, h, w, F'')."""
        moments, cells = self.quality_encoder.moments(views["whole"], views["valid"])
        return {"moments": moments, "cells": cells}

    def read_names(self, views: dict[str, jax.Array]) -> jax.Array:
        """`visibility` (B, T), from the views and the outputs of the other stages."""
        return self.read_score(views)[1]["visibility"]

    def read_score(
        self, views: dict[str, jax.Array], keys: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """mos (B,) and what the head gives, from the views and the outputs of the other stages."""
        valid, cells = views["valid"], views["cells"]
        batch, rows, columns = cells.shape[:3]
        mask = valid_mask(valid, rows, columns, STRIDE)[..., 0]
        places = Places.of(cell_coordinates(valid, rows, columns, STRIDE), views["tile_boxes"], mask.reshape(batch, -1))
        found = self.head(views["moments"], cells.reshape(batch, rows * columns, -1), views["vector"], places, keys)
        weights = places.near * places.mask[..., None]
        kept = jnp.einsum("bnk,bn->bk", weights, jnp.log(found.cell_keep)) / jnp.maximum(weights.sum(axis=1), 1e-6)
        gain = self.head.gain(found.level, found.drop)
        severity, drops = seen(found.drop, gain), seen(found.drops, gain[:, None, :])
        visible, drops = (severity - VISIBLE) / VISIBLE_WIDTH, drops.reshape(batch, rows, columns, -1)
        return found.mos, {
            "level": found.level,
            "ceiling": found.ceiling,
            "drops": drops,
            "cell_visibility": nn.sigmoid((drops - VISIBLE) / VISIBLE_WIDTH),
            "severity": severity,
            "degradation_logits": visible,
            "visibility": nn.sigmoid(visible),
            "d": views["vector"].mean(axis=1),
            "q": self.head.quality(views["moments"]),
            "patch_scores": self.head.capped(found.level[:, None], found.cell_keep).reshape(mask.shape),
            "patch_weights": mask.astype(found.mos.dtype),
            "patch_mask": mask,
            "per_tile_mos": self.head.capped(found.level[:, None], jnp.exp(kept)),
            "per_tile_ceiling": self.head.ceiling(jnp.exp(kept)),
        }


def assemble_deduction(
    degradation_encoder: nn.Module, quality_encoder: nn.Module, config: ml_collections.ConfigDict
) -> DeductionModel:
    """The model around two encoders. `config`: `types`, the names of the degradations or their number; `head`, the
    other arguments of `DeductionHead`."""
    types = config.types if isinstance(config.types, int) else len(config.types)
    of_types = {name: tuple(config.head.get(name, ())) for name in ("shares", "causes", "groups")}
    head = {**config.head, **of_types, "types": types}
    return DeductionModel(degradation_encoder, quality_encoder, DeductionHead(**head))


def pooled(lost: jax.Array, mask: jax.Array) -> jax.Array:
    """`lost` (B, N, C), at least 0, pooled over the cells of `mask` (B, N) bool: (B, C).

    The power mean of order `_WORST`, because people judge by the worst region: of a fault in an eighth of the image
    half is left, where the mean would leave an eighth.
    """
    weight = mask[..., None].astype(lost.dtype)
    mean = (weight * (lost + 1e-6) ** _WORST).sum(axis=1) / weight.sum(axis=1)
    return mean ** (1 / _WORST)


def seen(drop: jax.Array, gain: jax.Array) -> jax.Array:
    """A drop in [0, 1) that is seen as `gain` drops at once; shapes that broadcast."""
    return 1 - jnp.exp(-lost_of(drop) * gain)


def soft_minimum(a: jax.Array, b: jax.Array, temperature: float) -> jax.Array:
    """A smooth lower bound of min(a, b), at most `temperature * log(2)` below it."""
    return -temperature * jnp.logaddexp(-a / temperature, -b / temperature)


def lost_of(drops: jax.Array) -> jax.Array:
    """Minus the logarithm of what drops in [0, 1] keep; any shape."""
    return -jnp.log1p(-jnp.minimum(drops, _MOST))
