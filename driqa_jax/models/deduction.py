"""The form "deduction": a quality level, and a ceiling that visible degradations put on it.

The level reads moments of the frozen quality backbone. The degradation vector of each tile gives a visible drop per
type. The drops multiply to a ceiling, and the score is the soft minimum of level and ceiling. A product of both would
deduct the same fault twice: the level is already low if the backbone sees the fault. A model fitted to own ratings
adds a linear residual to the level, see `driqa_jax.train.residual`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax.models.degradation_encoder import Degradation
from driqa_jax.models.layers import Dense, Standardize, cell_coordinates, dropout, valid_mask
from driqa_jax.models.quality_encoder import STRIDE

FLOOR = 0.05  # the score of an image whose visible drop is complete
# Half of the observers call a drop visible that takes the human mean of KADID-10k from 4.6 to 4.0 on its scale of 3.6
# points. The width is that of the observers' disagreement, .35 points.
VISIBLE, VISIBLE_WIDTH = 1 / 6, 0.1
_MOST = 0.995  # a drop of 1 has no logarithm
_SHARPNESS = 8.0  # of the map between tiles: a deviation of a quarter of a tile


class Deduction(NamedTuple):
    """`mos`, `level`, `ceiling`, `keep` (B,); `drops` (B, K, T) in [0, 1), a visible drop per tile and type.

    `tile_keep` (B, K) in (0, 1]: what the drops of one tile leave of the ceiling. `keep` is its geometric mean.
    """

    mos: jax.Array
    level: jax.Array
    ceiling: jax.Array
    keep: jax.Array
    drops: jax.Array
    tile_keep: jax.Array


class DeductionHead(nn.Module):
    """The head.

    Attributes:
      types: T, the number of degradation types with a drop.
      level_width, drop_width: hidden units of the two branches.
      shares: (T,) how much of each type's drop counts; empty: all of it. Raters of color and tone compared with a
        reference, so their drop is partly fidelity: a pale photograph is not a bad one.
      top: the ceiling of an image without a visible degradation.
      temperature: of the soft minimum, in units of the score.
      level_dropout, drop_dropout: rates on the hidden units, in training.
      residual: whether the level has a linear residual of `read`; weights without it have no parameters for it.
    """

    types: int
    level_width: int = 128
    drop_width: int = 128
    shares: tuple[float, ...] = ()
    top: float = 0.85
    temperature: float = 0.03
    level_dropout: float = 0.5
    drop_dropout: float = 0.3
    residual: bool = False

    def setup(self):
        self.standardize_moments, self.standardize_vectors = Standardize(), Standardize()
        if len(self.shares) not in (0, self.types):
            raise ValueError(f"shares must be empty or have {self.types} values, got {len(self.shares)}")
        # A small start keeps the function of thousands of correlated moments smooth.
        small = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.level_hidden, self.drop_hidden = Dense(self.level_width, small), Dense(self.drop_width)
        self.level_out = Dense(1, bias_init=nn.initializers.constant(0.7))
        # Training starts with almost no drop.
        self.drop_out = Dense(self.types, bias_init=nn.initializers.constant(-4.0))
        if self.residual:
            self.residual_out = Dense(1, nn.initializers.zeros)

    def __call__(self, moments: jax.Array, vectors: jax.Array, keys: jax.Array | None = None) -> Deduction:
        """Score images.

        Args:
          moments: (B, F) means and deviations of the quality backbone's stages, see `QualityEncoder.features`.
          vectors: (B, K, C) degradation vectors of K tiles.
          keys: (B,) random keys in training, else None.
        """
        level = self.level(moments, keys)
        if self.residual:
            level = level + self.residual_out(self.read(moments, vectors))[:, 0]
        return self.deduct(level, vectors, keys)

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

    def deduct(self, level: jax.Array, vectors: jax.Array, keys: jax.Array | None = None) -> Deduction:
        """The score of a given `level` (B,) under the drops of `vectors` (B, K, C)."""
        batch, count = vectors.shape[:2]
        hidden = nn.gelu(self.drop_hidden(self.standardize_vectors(vectors))).reshape(batch, -1)
        if keys is not None:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        hidden = dropout(hidden, keys, self.drop_dropout).reshape(batch, count, -1)
        drops = nn.sigmoid(self.drop_out(hidden))
        kept = _logarithm_kept(drops)
        if self.shares:
            kept = kept * jnp.asarray(self.shares)[None, None, :]
        tile_kept = kept.sum(axis=2)
        # Tiles are averaged in the logarithm: one tile alone cannot lower the ceiling to the floor.
        keep = jnp.exp(tile_kept.mean(axis=1))
        mos, ceiling = self.capped(level, keep), self.ceiling(keep)
        return Deduction(mos, level, ceiling, keep, drops, jnp.exp(tile_kept))

    def ceiling(self, keep: jax.Array) -> jax.Array:
        """The ceiling of which a share `keep` in (0, 1] is left; any shape."""
        return FLOOR + (self.top - FLOOR) * keep

    def capped(self, level: jax.Array, keep: jax.Array) -> jax.Array:
        """The score of `level` under `ceiling(keep)`; shapes that broadcast."""
        return soft_minimum(level, self.ceiling(keep), self.temperature)


class DeductionModel(nn.Module):
    """The whole model of this form. It has neither a restoration network nor an interaction.

    Attributes:
      drop_types: for each of the head's types its place among the types of `E_d`.
    """

    degradation_encoder: nn.Module
    quality_encoder: nn.Module
    head: DeductionHead
    drop_types: tuple[int, ...]

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
          drops (B, K, T'): the visible drop in [0, 1) of each of the head's types in each tile;
          visibility (B, T) in [0, 1]: the probability that a person sees the type, from its drop, or the probability
          that `E_d` gives to a type without a drop;
          d (B, C), q (B, Q): the mean degradation vector, and the hidden units of the level;
          moments (B, F), vector (B, K, C): what the head reads;
          patch_scores, patch_weights (B, h, w) and patch_mask (B, h, w) bool: the quality map. A cell has the score of
          the level under the ceiling of the tiles around it; weights are 1 inside the image and 0 outside;
          degradation_logits (B, T), severity (B, T) in [0, 1]: means over the tiles;
          per_tile_mos, per_tile_ceiling (B, K): the MOS under the ceiling of each tile alone, and that ceiling.
        """
        del per_tile  # costs nothing here
        views = {"whole": whole, "valid": valid, "tiles": tiles, "tile_boxes": tile_boxes}
        encoded = self.degradation_encoder(tiles.reshape(-1, *tiles.shape[2:]))
        read = {"vector": _by_tile(encoded.vector, tiles), **self.read_quality(views)}
        mos, out = self.read_score({**views, **read}, keys)
        logits, severity = (_by_tile(x, tiles).mean(axis=1) for x in (encoded.logits, encoded.severity))
        drop = 1 - jnp.exp(_logarithm_kept(out["drops"]).mean(axis=1))
        visible = logits.at[:, jnp.array(self.drop_types)].set((drop - VISIBLE) / VISIBLE_WIDTH)
        found = {"degradation_logits": logits, "severity": severity, "visibility": nn.sigmoid(visible)}
        return mos, {**out, **read, **found}

    def read_degradation(self, views: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """`vector` (B, K, C) of the tiles."""
        tiles = views["tiles"]
        return {"vector": _by_tile(self.degradation_encoder(tiles.reshape(-1, *tiles.shape[2:])).vector, tiles)}

    def read_quality(self, views: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """`moments` (B, F) of the whole image."""
        return {"moments": self.quality_encoder.features(views["whole"], views["valid"])[0]}

    def read_score(
        self, views: dict[str, jax.Array], keys: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """mos (B,) and what the head gives, from the views and the outputs of the other stages."""
        found = self.head(views["moments"], views["vector"], keys)
        valid, (rows, columns) = views["valid"], (side // STRIDE for side in views["whole"].shape[1:3])
        near = _nearness(cell_coordinates(valid, rows, columns, STRIDE), views["tile_boxes"])
        cells = jnp.exp((near * jnp.log(found.tile_keep)[:, None, :]).sum(axis=2))
        mask = valid_mask(valid, rows, columns, STRIDE)[..., 0]
        return found.mos, {
            "level": found.level,
            "ceiling": found.ceiling,
            "drops": found.drops,
            "d": views["vector"].mean(axis=1),
            "q": self.head.quality(views["moments"]),
            "patch_scores": self.head.capped(found.level[:, None], cells).reshape(mask.shape),
            "patch_weights": mask.astype(found.mos.dtype),
            "patch_mask": mask,
            "per_tile_mos": self.head.capped(found.level[:, None], found.tile_keep),
            "per_tile_ceiling": self.head.ceiling(found.tile_keep),
        }


def assemble_deduction(
    degradation_encoder: nn.Module, quality_encoder: nn.Module, config: ml_collections.ConfigDict
) -> DeductionModel:
    """The model around two encoders.

    `config`: `types`, the names of the degradations that `E_d` names; `head`, the arguments of `DeductionHead`, with
    names of degradations as `types`. Raises ValueError if a name of the head is not among the others.
    """
    names, dropped = list(config.types), tuple(config.head.types)
    if unknown := [name for name in dropped if name not in names]:
        raise ValueError(f"model.head.types must be among model.types, got {', '.join(unknown)}")
    settings = {**config.head, "types": len(dropped), "shares": tuple(config.head.get("shares", ()))}
    places = tuple(names.index(name) for name in dropped)
    return DeductionModel(degradation_encoder, quality_encoder, DeductionHead(**settings), places)


def soft_minimum(a: jax.Array, b: jax.Array, temperature: float) -> jax.Array:
    """A smooth lower bound of min(a, b), at most `temperature * log(2)` below it."""
    return -temperature * jnp.logaddexp(-a / temperature, -b / temperature)


def _logarithm_kept(drops):
    return jnp.log1p(-jnp.minimum(drops, _MOST))


def _by_tile(x, tiles):
    return x.reshape(*tiles.shape[:2], *x.shape[1:])


def _nearness(cells, boxes):
    """Weights (B, N, K), sum 1, of tiles in `boxes` (B, K, 4) for the cells at `cells` (B, N, 2): the nearest tile."""
    start, end = boxes[:, None, :, :2], boxes[:, None, :, 2:]
    distance = (cells[:, :, None, :] - (start + end) / 2) / (end - start)
    return nn.softmax(-_SHARPNESS * jnp.square(distance).sum(axis=-1), axis=-1)
