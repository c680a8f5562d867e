"""Score by deduction: a quality level, and a ceiling that visible degradations put on it.

The level reads moments of the quality backbone. The degradation vector of each tile gives a visible drop per type.
The drops multiply to a ceiling, and the score is the soft minimum of level and ceiling. A product of both would deduct
the same fault twice: the level is already low if the backbone sees the fault.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from driqa_jax.models.layers import Dense, Standardize, dropout

FLOOR = 0.05  # the score of an image whose visible drop is complete
_MOST = 0.995  # a drop of 1 has no logarithm


class Deduction(NamedTuple):
    """`mos`, `level`, `ceiling`, `keep` (B,); `drops` (B, K, T) in [0, 1), a visible drop per tile and type."""

    mos: jax.Array
    level: jax.Array
    ceiling: jax.Array
    keep: jax.Array
    drops: jax.Array


class DeductionHead(nn.Module):
    """The head.

    Attributes:
      types: T, the number of degradation types with a drop.
      level_width, drop_width: hidden units of the two branches.
      shares: (T,) how much of each type's drop counts; empty: all of it. Raters of colour and tone compared with a
        reference, so their drop is partly fidelity: a pale photograph is not a bad one.
      top: the ceiling of an image without a visible degradation.
      temperature: of the soft minimum, in units of the score.
      level_dropout, drop_dropout: rates on the hidden units, in training.
    """

    types: int
    level_width: int = 128
    drop_width: int = 128
    shares: tuple[float, ...] = ()
    top: float = 0.85
    temperature: float = 0.03
    level_dropout: float = 0.5
    drop_dropout: float = 0.3

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

    def __call__(self, moments: jax.Array, vectors: jax.Array, keys: jax.Array | None = None) -> Deduction:
        """Score images.

        Args:
          moments: (B, F) means and deviations of the quality backbone's stages, see `QualityEncoder.look`.
          vectors: (B, K, C) degradation vectors of K tiles.
          keys: (B,) random keys in training, else None.
        """
        return self.deduct(self.level(moments, keys), vectors, keys)

    def level(self, moments: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """The quality level (B,) of `moments` (B, F)."""
        hidden = nn.gelu(self.level_hidden(self.standardize_moments(moments)))
        return self.level_out(dropout(hidden, keys, self.level_dropout))[:, 0]

    def deduct(self, level: jax.Array, vectors: jax.Array, keys: jax.Array | None = None) -> Deduction:
        """The score of a given `level` (B,) under the drops of `vectors` (B, K, C)."""
        batch, count = vectors.shape[:2]
        hidden = nn.gelu(self.drop_hidden(self.standardize_vectors(vectors))).reshape(batch, -1)
        if keys is not None:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        hidden = dropout(hidden, keys, self.drop_dropout).reshape(batch, count, -1)
        drops = nn.sigmoid(self.drop_out(hidden))
        # Tiles are averaged in the logarithm: one tile alone cannot lower the ceiling to the floor.
        kept = jnp.log1p(-jnp.minimum(drops, _MOST))
        if self.shares:
            kept = kept * jnp.asarray(self.shares)[None, None, :]
        keep = jnp.exp(kept.sum(axis=2).mean(axis=1))
        ceiling = FLOOR + (self.top - FLOOR) * keep
        return Deduction(soft_minimum(level, ceiling, self.temperature), level, ceiling, keep, drops)


def soft_minimum(a: jax.Array, b: jax.Array, temperature: float) -> jax.Array:
    """A smooth lower bound of min(a, b), at most `temperature * log(2)` below it."""
    return -temperature * jnp.logaddexp(-a / temperature, -b / temperature)
