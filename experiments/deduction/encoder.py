"""Tuning of the late layers of `E_d`, so that degradation vectors hold what the drops must name.

`E_d` was pretrained to name what a bank applies to clean photographs. Here its late layers learn from the examples of
the drops: two linear heads, which are not kept, read from the vector of each tile the visible drop of each type in it,
and the score of the image. The early layers stay, so that what they see can be kept: the tuning takes minutes.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.models.degradation_encoder import EARLY, DegradationEncoder, Early
from driqa_jax.models.layers import Dense, dropout
from driqa_jax.progress import ProgressFn, silent
from experiments.deduction import training
from experiments.deduction.drops import Batch, Examples, names_known
from experiments.deduction.features import TILES

BATCH = 64  # examples whose vectors are computed at once


class Tiles:
    """What the early layers see of the tiles of examples, read from disk when it is used: 300 KB an example.

    `parts`: stores and the names of their examples, in the order of the examples.
    """

    def __init__(self, parts: Sequence[tuple[FeatureStore, Sequence[str]]]):
        self._places = [(store, name) for store, names in parts for name in names]
        (store, name), *_ = self._places
        self._names = [each for each in TILES if each in store.read([name])]

    def __len__(self) -> int:
        return len(self._places)

    def __call__(self, rows: Sequence[int]) -> Early:
        """The arrays of the tiles of these examples, (len(rows) K, ...) float32."""
        read = [store.read([name], self._names) for store, name in (self._places[row] for row in rows)]
        found = {name: np.concatenate([each[name][0] for each in read]).astype(np.float32) for name in self._names}
        return Early(*(found.get(name) for name in TILES))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to tune: `steps` of `batch` examples with AdamW. `dropout`: rate on the vectors. `naming` weighs the
    cross-entropy of the drops beside the absolute error of the score. `mix`: as in `training.Recipe`."""

    steps: int = 2000
    batch: int = 32
    rate: float = 1.5e-3
    decay: float = 0.05
    dropout: float = 0.2
    naming: float = 10.0
    mix: tuple[tuple[str, float], ...] = training.Recipe().mix
    seed: int = 0


def vectors(encoder: DegradationEncoder, params: dict, tiles: Tiles) -> np.ndarray:
    """The degradation vectors (N, K, C) float16 of all examples."""
    run = jax.jit(lambda params, early: encoder.apply({"params": params}, early, method="late")[1])
    parts = []
    for start in range(0, len(tiles), BATCH):
        rows = range(start, min(start + BATCH, len(tiles)))
        parts.append(np.asarray(run(params, tiles(rows)), np.float16).reshape(len(rows), -1, encoder.width))
    return np.concatenate(parts)


def tune(
    encoder: DegradationEncoder,
    params: dict,
    tiles: Tiles,
    examples: Examples,
    targets: Batch,
    recipe: Recipe = Recipe(),
    progress: ProgressFn = silent,
    report: training.ReportFn = training.unreported,
) -> dict:
    """`params` of `E_d` with tuned late layers; `targets`: of the examples, see `drops.targets`.

    Equal input and recipe give equal parameters on one machine.
    """
    fixed = {name for name in params if name in ("full", "standardize_statistics")}
    fixed |= {f"{layer}{number}" for layer in ("conv", "norm") for number in range(1, EARLY + 1)}
    late = {name: part for name, part in params.items() if name not in fixed}
    # How much of the fault is in a tile: the mean over the cells near it.
    near = np.float32(examples.near)
    shares = np.einsum("nmk,nm->nk", near, np.float32(examples.area)) / near.sum(axis=1)
    score = np.where(targets.rated, targets.base, targets.target)

    # Training starts with almost no drop.
    names = Dense(targets.named.shape[1], bias_init=nn.initializers.constant(-4.0))
    quality = Dense(1, bias_init=nn.initializers.constant(0.7))

    def loss(params, early, shares, score, batch, keys):
        vector = encoder.apply({"params": params["late"]}, early, method="late")[1].reshape(*shares.shape, -1)
        vector = dropout(vector, keys, recipe.dropout)
        logits = names.apply({"params": params["names"]}, vector)
        named = batch.named[:, None, :] * shares[:, :, None]
        entropy = optax.sigmoid_binary_cross_entropy(logits, named).mean(axis=(1, 2))
        missed = jnp.abs(quality.apply({"params": params["quality"]}, vector).mean(axis=(1, 2)) - score)
        return (recipe.naming * batch.weight * names_known(batch) * entropy + missed).mean()

    key, vector = jax.random.key(recipe.seed), jnp.zeros((1, encoder.width))
    learned = {"names": names.init(key, vector)["params"], "quality": quality.init(key, vector)["params"], "late": late}
    step, state_of = training.trainer(loss, recipe.rate, recipe.decay, recipe.steps, tuple(learned))
    state = state_of(learned)
    rows_of = training.batches(examples.kinds, recipe.mix, recipe.batch, recipe.steps, recipe.seed)
    for number, rows in enumerate(rows_of):
        batch = Batch(*(x[rows] for x in targets))
        keys = training.random_keys(recipe.seed, number, len(rows))
        learned, state, value = step(learned, state, tiles(rows), shares[rows], score[rows], batch, keys)
        report("loss of the encoder", number + 1, value)
        progress("steps of the degradation encoder", number + 1, recipe.steps)
    return {**params, **learned["late"]}
