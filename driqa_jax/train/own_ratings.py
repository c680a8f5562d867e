"""Fits a residual on one's own ratings to a model of the form "deduction", and writes it as a weights file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from driqa_jax.checkpoints.load import load, require_params
from driqa_jax.checkpoints.weights import params_sha256, save_weights
from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.data.source import Source
from driqa_jax.errors import UnreadableImage, UserError, reason
from driqa_jax.inference.calibration import FEWEST
from driqa_jax.inference.scorer import Scorer
from driqa_jax.models.deduction import DeductionModel, soft_minimum
from driqa_jax.models.driqa import build_model
from driqa_jax.progress import ProgressFn, silent
from driqa_jax.train.export import fit_header
from driqa_jax.train.residual import Gain, Residual, measure
from driqa_jax.version import VERSION


class Rated(NamedTuple):
    """What a model reads from N rated images.

    level (N,): the quality level. ceilings (N, 1 + K): of the image, then of each tile alone. features (N, D): the
    inputs of a residual, see `DeductionHead.read`. seen (N, 2): the fields of `Evidence`. mos (N,): ratings in [0, 1].
    groups (N,): str.
    """

    level: np.ndarray
    ceilings: np.ndarray
    features: np.ndarray
    seen: np.ndarray
    mos: np.ndarray
    groups: np.ndarray

    def at(self, rows: np.ndarray) -> Rated:
        """The images `rows`."""
        return Rated(*(values[rows] for values in self))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fit: its gain, and the new model's parameters and metadata. `refusal`: why it is no better; "" if it is."""

    gain: Gain
    values: dict[str, float]
    params: dict[str, Any]
    metadata: dict[str, Any]
    refusal: str


class OwnRatings:
    """Fits residuals to one model.

    `name`: a bundled model, a weights file or a workdir. Raises UserError if it cannot be loaded, or has another form.
    """

    def __init__(self, name: str | os.PathLike):
        self.loaded = load(name)
        model = build_model(self.loaded.config)
        if not isinstance(model, DeductionModel):
            form = self.loaded.config.get("form", "interaction")
            raise UserError(
                f"{name}: is a model of the form {form!r}, and a fit needs one of the form 'deduction'; train this one "
                "on your ratings with `driqa train --config configs/finetune_csv.py`"
            )
        require_params(self.loaded, model)
        self._model, self._name = model, os.fspath(name)
        head = self.loaded.params["head"]
        # The blocks of `DeductionHead.read`.
        parts = head["standardize_moments"]["shift"], head["level_out"]["kernel"], head["standardize_vectors"]["shift"]
        self.widths = tuple(len(each) for each in parts)

    def read(
        self, source: Source, progress: ProgressFn = silent, folder: str | os.PathLike | None = None
    ) -> tuple[Rated, dict[str, str]]:
        """What the model reads from each image, and the reason by name for images that cannot be read.

        `folder`: keeps what is read, by the bytes of the image; None: nowhere. Raises UserError for fewer than `FEWEST`
        readable images, and for equal ratings.
        """
        parts = [field.name for field in dataclasses.fields(self._model) if field.name not in ("parent", "name")]
        reader = _Reader(**{name: getattr(self._model, name) for name in parts})
        scorer = Scorer(reader, self.loaded.params, {**self.loaded.metadata, "calibration": {}}, name=self._name)
        key = {"format": 1, "view": scorer.rule.to_dict(), "params": params_sha256(self.loaded.params)}
        store = None if folder is None else FeatureStore(folder, "own", key)
        found, failed = {}, {}
        for start in range(0, len(source), _CHUNK):
            rows = list(range(start, min(start + _CHUNK, len(source))))
            for row, each in zip(rows, _outcomes(scorer, source, rows, store), strict=True):
                name = str(source.column("image_id")[row])
                if isinstance(each, Exception):
                    failed[name] = reason(each, name)
                else:
                    found[row] = each
            progress("reading rated images", rows[-1] + 1, len(source))
        if len(found) < FEWEST:
            unread = f", {len(failed)} of them without a readable image" if failed else ""
            raise UserError(f"{len(source)} ratings{unread}: a fit needs at least {FEWEST}; rate more photos")
        arrays, seen = (np.stack(each) for each in zip(*found.values(), strict=True))
        level, ceilings, features = np.split(arrays, [1, 2 + scorer.rule.tiles], axis=1)
        mos, groups = (source.column(key)[list(found)] for key in ("mos", "group"))
        if np.ptp(mos) == 0:
            raise UserError(f"all {len(mos)} ratings are equal, so they order no photos; rate better and worse ones")
        return Rated(level[:, 0], ceilings, features, seen, mos, groups), failed

    def scores(self, rated: Rated, residual: np.ndarray | float = 0.0) -> np.ndarray:
        """Uncalibrated MOS (N, 1 + K), of the image and by its tiles, with a residual (N,) on the level."""
        level = np.broadcast_to(rated.level + residual, rated.level.shape)[:, None]
        found = soft_minimum(jnp.asarray(level), jnp.asarray(rated.ceilings), self._model.head.temperature)
        return np.asarray(found, np.float64)

    def residual(self, rated: Rated) -> Residual:
        """The regression on all ratings, of which any rows can be fitted."""
        return Residual(rated.features, self.widths, self.scores(rated)[:, 0], rated.mos)

    def fit(self, rated: Rated, about: dict[str, Any], seed: int = 0) -> Fitted:
        """Fit on all ratings; gain, calibration and interval are those of fits that did not see the image.

        `about`: of the ratings, for the provenance. `seed`: of folds and bootstrap. Raises UserError if all images
        belong to one group.
        """
        ridge, before = self.residual(rated), self.scores(rated)
        after = self.scores(rated, ridge.out_of_fold(rated.groups, seed))
        gain = measure(before[:, 0], after[:, 0], rated.mos, seed)
        refusal = gain.refusal()
        if refusal:
            return Fitted(gain, {}, {}, {}, refusal)
        fitted, values = fit_header(after, rated.seen, rated.mos, lambda line: None)
        provenance = {
            **self.loaded.metadata["provenance"],
            "validation": values,
            "residual": {
                **about,
                "ratings": len(rated.mos),
                "model": params_sha256(self.loaded.params),
                "srcc": {name: dataclasses.asdict(each) for name, each in vars(gain).items()},
                "seed": seed,
                "driqa_jax": VERSION,
            },
        }
        config = self.loaded.config.to_dict()
        config["head"]["residual"] = True
        metadata = {**self.loaded.metadata, **fitted, "config": config, "provenance": provenance}
        return Fitted(gain, values, self._with_residual(*ridge.fit()), metadata, "")

    def _with_residual(self, kernel: np.ndarray, bias: float) -> dict[str, Any]:
        """The model's parameters with a further residual; that of an earlier fit stays, and both add up."""
        head = self.loaded.params["head"]
        new = {"kernel": kernel[:, None].astype(np.float32), "bias": np.float32([bias])}
        if earlier := head.get("residual_out"):
            new = {name: new[name] + earlier[name] for name in new}
        return {**self.loaded.params, "head": {**head, "residual_out": new}}


_CHUNK = 25  # images whose bytes are held at once


def _outcomes(scorer: Scorer, source: Source, rows: list[int], store: FeatureStore | None) -> list[Any]:
    """For each row the array of `_Reader` and the evidence (2,), or an exception; from the store, if it has them."""
    outcomes, names, encoded = {}, {}, {}
    for row in rows:
        try:
            encoded[row] = source.read(row)
        except UnreadableImage as error:
            outcomes[row] = error
            continue
        names[row] = hashlib.sha256(encoded[row]).hexdigest()
        if store is not None and names[row] in store:
            kept = store.read([names[row]])
            outcomes[row] = kept["read"][0], kept["seen"][0]
    new = [row for row in rows if row not in outcomes]
    for row, each in zip(new, scorer.attempt_parts([encoded[row] for row in new]), strict=True):
        if not isinstance(each, Exception):
            each = each[0], np.float64(each[1])
            each = each if np.isfinite(each[0]).all() else ValueError("the model gives no finite number")
        outcomes[row] = each
    good = list({names[row]: row for row in new if not isinstance(outcomes[row], Exception)}.values())
    if store is not None and good:
        arrays = {name: np.stack([outcomes[row][i] for row in good]) for i, name in enumerate(("read", "seen"))}
        store.add([names[row] for row in good], [encoded[row] for row in good], arrays)
    return [outcomes[row] for row in rows]


class _Reader(DeductionModel):
    """Gives in place of scores what a residual is fitted on: the level; in place of tiles, ceilings and features."""

    def read_score(self, views, keys=None):
        _, out = super().read_score(views, keys)
        features = self.head.read(views["moments"], views["vector"])
        parts = [out["ceiling"][:, None], out["per_tile_ceiling"], features]
        return out["level"], {"per_tile_mos": jnp.concatenate(parts, axis=1)}


def fit(
    model: str | os.PathLike,
    source: Source,
    out: str | os.PathLike,
    about: dict[str, Any],
    seed: int = 0,
    progress: ProgressFn = silent,
    folder: str | os.PathLike | None = None,
) -> tuple[Fitted, dict[str, str], str | None]:
    """Fit a model to the ratings of `source` and write `out`; nothing is written if the fit is no better.

    `folder`: keeps what the model reads, see `OwnRatings.read`. Returns the fit, the reason by name for images that
    cannot be read, and the file's sha256 (None: not written). Raises UserError as `OwnRatings` and its methods do. The
    result is deterministic.
    """
    own = OwnRatings(model)
    rated, failed = own.read(source, progress, folder)
    fitted = own.fit(rated, about, seed)
    sha256 = None if fitted.refusal else save_weights(out, fitted.params, fitted.metadata)
    return fitted, failed, sha256
