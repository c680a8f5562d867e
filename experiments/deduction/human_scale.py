"""Agreement of a score with people on 25 synthetic degradations at 5 levels.

`MEANS` are means over 81 photographs of the scores that KADID-10k (Lin, Hosu and Saupe, QoMEX 2019) publishes, from 1
to 5, higher is better. The bank makes these types and levels, so any pristine photograph of about 512x384 pixels
serves. Raters compared each image with its reference, so color and tone types also measure fidelity and are reported
apart.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax import degradations
from driqa_jax.degradations import Chain
from driqa_jax.degradations.registry import find
from driqa_jax.evaluation.bootstrap import Estimate, intervals
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.progress import ProgressFn, silent

MEANS: dict[str, tuple[float, ...]] = {
    "gaussian_blur": (4.61, 4.38, 2.91, 1.87, 1.30),
    "lens_blur": (3.86, 2.65, 1.76, 1.44, 1.30),
    "motion_blur": (4.60, 4.10, 2.85, 2.18, 1.67),
    "color_diffusion": (4.50, 2.60, 1.76, 1.61, 1.39),
    "color_shift": (4.23, 2.55, 1.92, 1.85, 1.86),
    "color_quantization": (4.11, 3.97, 3.72, 3.20, 2.42),
    "color_saturation_1": (2.75, 2.33, 2.26, 2.24, 2.03),
    "color_saturation_2": (4.58, 3.33, 2.65, 1.82, 1.52),
    "jpeg2000": (4.55, 4.20, 3.87, 2.44, 1.39),
    "jpeg": (4.34, 4.25, 3.87, 1.95, 1.35),
    "white_noise": (3.89, 3.39, 3.05, 2.71, 2.30),
    "white_noise_color_component": (4.47, 3.68, 3.17, 2.69, 2.38),
    "impulse_noise": (3.58, 2.93, 2.61, 2.31, 2.13),
    "multiplicative_noise": (4.40, 3.58, 3.08, 2.64, 2.12),
    "denoise": (3.67, 2.73, 2.20, 1.65, 1.47),
    "brighten": (4.51, 4.29, 3.63, 2.70, 1.81),
    "darken": (4.60, 4.53, 4.23, 3.53, 2.22),
    "mean_shift": (4.22, 4.52, 4.60, 4.37, 3.90),
    "jitter": (4.42, 4.09, 3.24, 1.85, 1.34),
    "non_eccentricity_patch": (4.33, 3.94, 3.77, 3.46, 3.26),
    "pixelate": (3.89, 3.10, 2.90, 2.79, 1.50),
    "quantization": (4.17, 3.93, 3.69, 3.37, 2.80),
    "color_block": (2.69, 2.36, 2.30, 2.13, 2.04),
    "high_sharpen": (3.58, 2.64, 2.14, 1.61, 1.34),
    "contrast_change": (3.42, 3.86, 4.29, 4.14, 3.32),
}
# The published generator draws a sign for these two, so one mean does not describe the images of the bank.
UNMATCHED = ("mean_shift", "contrast_change")
FIDELITY = (
    *("color_diffusion", "color_shift", "color_quantization", "color_saturation_1", "color_saturation_2"),
    *("brighten", "darken"),
)
UNTOUCHED, WORST = 4.6, 1.0  # means of an image without a visible change and of the worst cells
LEVELS = 5


def drop(name: str, level: int) -> float:
    """The visible drop in [0, 1] of a type at a level from 0 to 4: 0 unseen, 1 the worst."""
    return float(np.clip((UNTOUCHED - MEANS[name][level]) / (UNTOUCHED - WORST), 0.0, 1.0))


def degraded(
    photo: np.ndarray, name: str, seed: int = 0, cells: Sequence[tuple[str, int]] | None = None
) -> Iterator[np.ndarray]:
    """Cells, pairs of a type and a level from 0 to 4, of a photograph (H, W, 3) uint8 called `name`.

    None: every cell, types in the order of `MEANS`, mildest level first.
    """
    image = jnp.asarray(photo, jnp.float32)[None] / 255.0
    photo_key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    for kind, level in cells or [(kind, level) for kind in MEANS for level in range(LEVELS)]:
        index = degradations.NAMES.index(kind)
        chain = Chain(jnp.array([[index]], jnp.int32), jnp.array([[find(kind).kadid_levels[level]]], jnp.float32))
        # Levels of one type share the key: noise and positions are equal.
        yield np.asarray(_apply(jax.random.fold_in(photo_key, index), image, chain))


def examine_human_scale(
    score: Callable[[Sequence[np.ndarray]], np.ndarray],
    photos: Mapping[str, np.ndarray],
    seed: int = 0,
    progress: ProgressFn = silent,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the photographs (P, ...) and their cells (P, 25, 5, ...). `score`: from images to scores (N, ...)."""
    rows = []
    for done, (name, photo) in enumerate(photos.items()):
        rows.append(np.asarray(score([photo, *degraded(photo, name, seed)]), np.float64))
        progress("scoring degraded photographs", done + 1, len(photos))
    rows = np.array(rows)
    return rows[:, 0], rows[:, 1:].reshape(len(photos), len(MEANS), LEVELS, *rows.shape[2:])


def agreement(cells: np.ndarray, fidelity: bool = True, draws: int = 1000, seed: int = 0) -> Estimate:
    """SRCC of cells (P, 25, 5) with the means, with an interval over photographs.

    `fidelity`: whether color and tone types count.
    """
    value, drawn = resampled_agreement(cells, fidelity, draws, seed)
    interval = intervals({"": drawn})[""] if len(cells) > 1 else None
    return Estimate(None if np.isnan(value) else value, interval, len(cells))


def resampled_agreement(
    cells: np.ndarray, fidelity: bool = True, draws: int = 1000, seed: int = 0
) -> tuple[float, np.ndarray]:
    """The SRCC of `agreement`, and that of resampled photographs (draws,); NaN where it is undefined.

    Equal P and seed give equal resamples, so that differences between models are paired.
    """
    used = [i for i, name in enumerate(MEANS) if name not in UNMATCHED and (fidelity or name not in FIDELITY)]
    truth = np.broadcast_to(np.array(list(MEANS.values()))[used], (len(cells), len(used), LEVELS))
    chosen = np.random.default_rng(seed).integers(0, len(cells), (draws, len(cells)))

    def figure(rows):
        value = srcc(cells[rows][:, used].ravel(), truth[rows].ravel())
        return np.nan if value is None else value

    return figure(np.arange(len(cells))), np.array([figure(rows) for rows in chosen])


@jax.jit
def _apply(key, image, chain):
    made = degradations.apply_chains(key, image, chain, jnp.zeros(1, jnp.int32), names=tuple(MEANS))
    return jnp.rint(made[0, 0] * 255.0).astype(jnp.uint8)
