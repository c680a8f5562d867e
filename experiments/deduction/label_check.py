"""Whether the bank makes the images that KADID-10k's human means belong to: independent versions of its 125 cells.

    python -m experiments.deduction.label_check PHOTOS -o docs/results/label_check.md

The photographs are reduced to 512x384, the size of KADID-10k's. Each cell is made twice: by the bank, and here with
Pillow, numpy, SciPy and scikit-image. Both are compared with the photograph.

The versions here were written for this check from the parameters and the order of operations of KADID-10k's generator
(Lin, Hosu and Saupe, QoMEX 2019), whose MATLAB files were read in public copies of unknown licence. The Python
port in ARNIQA (Agnolucci et al., WACV 2024; github.com/miccunifi/ARNIQA, CC BY-NC 4.0) has the same parameters but for
the last ratio of JPEG 2000, which is 170 there, and for mean shift and contrast; two types are not in it. No code was
taken from either. Known differences from the generator: its denoiser is a trained network (DnCNN), here it is
non-local means, so this type is not judged; its palettes have minimum variance, here they are Pillow's median cut with
k-means; its Otsu thresholds come from a search, here they are exact; the direction of a motion and the places of
patches and blocks are drawn, as there.
"""

from __future__ import annotations

import argparse
import io
import pathlib
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.interpolate import CubicSpline

from benchmarks.photographs import SIZE, reduced
from driqa_jax import io as files
from driqa_jax.data.decode import decode
from driqa_jax.errors import UserError
from driqa_jax.evaluation.bootstrap import Estimate
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.evaluation.tables import Table, check_table, to_markdown
from driqa_jax.progress import Progress, ProgressFn, silent
from driqa_jax.reports.inputs import list_pictures
from experiments.deduction.human_scale import FIDELITY, LEVELS, MEANS, UNMATCHED, degraded
from experiments.restored_images.gmsd import gmsd

# Two versions of a cell agree if their GMSD differs by at most the larger of the two: an absolute amount and a share.
TOLERANCE, SHARE = 0.01, 0.15
DECIBELS = 2.0  # the same of PSNR, because GMSD reads luma alone
NOT_JUDGED = ("denoise",)

PARAMETERS: dict[str, tuple[float, ...]] = {
    "gaussian_blur": (0.1, 0.5, 1, 2, 5),
    "lens_blur": (1, 2, 4, 6, 8),
    "motion_blur": (1, 2, 4, 6, 10),
    "color_diffusion": (1, 3, 6, 8, 12),
    "color_shift": (1, 3, 6, 8, 12),
    "color_quantization": (64, 48, 32, 16, 8),
    "color_saturation_1": (0.4, 0.2, 0.1, 0, -0.4),
    "color_saturation_2": (1, 2, 3, 6, 9),
    "jpeg2000": (16, 32, 45, 120, 400),
    "jpeg": (43, 36, 24, 7, 4),
    "white_noise": (0.001, 0.002, 0.003, 0.005, 0.01),
    "white_noise_color_component": (0.0001, 0.0005, 0.001, 0.002, 0.003),
    "impulse_noise": (0.001, 0.005, 0.01, 0.02, 0.03),
    "multiplicative_noise": (0.001, 0.005, 0.01, 0.02, 0.05),
    "denoise": (0.01, 0.03, 0.05, 0.1, 0.15),
    "brighten": (0.1, 0.2, 0.4, 0.7, 1.1),
    "darken": (0.05, 0.1, 0.2, 0.4, 0.8),
    "mean_shift": (0.15, 0.08, 0, -0.08, -0.15),
    "jitter": (0.05, 0.1, 0.2, 0.5, 1),
    "non_eccentricity_patch": (20, 40, 60, 80, 100),
    "pixelate": (0.01, 0.05, 0.1, 0.2, 0.5),
    "quantization": (20, 16, 13, 10, 7),
    "color_block": (2, 4, 6, 8, 10),
    "high_sharpen": (1, 2, 3, 6, 12),
    "contrast_change": (0.3, 0.15, 0, -0.4, -0.6),
}


class Measured(NamedTuple):
    """GMSD and PSNR in dB (P, 25, 5) of the cells against P photographs, of the bank and of the versions here."""

    gmsd: np.ndarray
    other_gmsd: np.ndarray
    psnr: np.ndarray
    other_psnr: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Make the cells, measure, write the tables. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.deduction.label_check", description=__doc__.split("\n")[0]
    )
    parser.add_argument("photos", nargs="+", help="photographs or folders of them")
    parser.add_argument("-o", "--output", required=True, help="the tables, .md")
    args = parser.parse_args(argv)
    check_table(args.output)
    paths = list_pictures(args.photos)
    with Progress() as progress:
        measured = measure({pathlib.Path(path).name: reduced(decode(path)) for path in paths}, progress)
    text = report(measured)
    files.write_text(args.output, text)
    print(text)
    return 0


def measure(photos: Mapping[str, np.ndarray], progress: ProgressFn = silent) -> Measured:
    """`Measured` of photographs (H, W, 3) uint8 by name."""
    rows = []
    for done, (name, photo) in enumerate(photos.items()):
        pairs = zip(degraded(photo, name), versions(photo, name), strict=True)
        cells = [(*_compared(ours, photo), *_compared(other, photo)) for ours, other in pairs]
        rows.append(np.array(cells).reshape(len(MEANS), LEVELS, 4))
        progress("checking photographs", done + 1, len(photos))
    figures = np.stack(rows)
    return Measured(figures[..., 0], figures[..., 2], figures[..., 1], figures[..., 3])


def versions(photo: np.ndarray, name: str):
    """Every cell of a photograph (H, W, 3) uint8 called `name` as KADID-10k's generator makes it, in `MEANS`' order."""
    image = _stretched(photo / 255.0)
    for kind in MEANS:
        for parameter in PARAMETERS[kind]:
            # Levels of one type share the draws, as in `degraded`.
            rng = np.random.default_rng([zlib.crc32(name.encode()), zlib.crc32(kind.encode())])
            made = _stretched(_MAKERS[kind](rng, image, parameter))
            yield np.rint(made * 255).astype(np.uint8)


def report(measured: Measured) -> str:
    """The tables as Markdown."""
    photos, means = len(measured.gmsd), np.array(list(MEANS.values()))
    mine, other, psnr, other_psnr = (each.mean(axis=0) for each in measured)
    same = np.abs(mine - other) <= np.maximum(TOLERANCE, SHARE * other)
    bright = np.abs(np.minimum(psnr, 60) - np.minimum(other_psnr, 60)) <= DECIBELS
    types, cells = [], []
    for row, kind in enumerate(MEANS):
        judged = (
            "not judged" if kind in NOT_JUDGED else "yes" if same[row].all() else "in part" if same[row].any() else "no"
        )
        types.append([kind, judged, int(same[row].sum()), int(bright[row].sum())])
        for level in range(LEVELS):
            figures = (means[row, level], mine[row, level], other[row, level], psnr[row, level], other_psnr[row, level])
            cells.append(
                [kind, level + 1, *(f"{x:.{digits}f}" for x, digits in zip(figures, (2, 3, 3, 1, 1), strict=True))]
            )
    orders = []
    for words, left_out in (
        ("all types", ()),
        ("without color and tone", (*FIDELITY, *UNMATCHED)),
    ):
        rows = [row for row, kind in enumerate(MEANS) if kind not in left_out]
        figures = [Estimate(srcc(-each[rows].ravel(), means[rows].ravel())) for each in (mine, other)]
        orders.append([words, len(rows) * LEVELS, *figures])
    tables = (
        Table(
            f"Does the bank make the cells of KADID-10k? {photos} photographs of {SIZE[0]}x{SIZE[1]}; two versions of "
            f"a cell agree if their mean GMSD differs by at most {TOLERANCE} or {SHARE:.0%}, or their mean PSNR by at "
            f"most {DECIBELS:g} dB. GMSD reads luma alone",
            ("type", "as KADID-10k by GMSD", "levels of 5 by GMSD", "levels of 5 by PSNR"),
            types,
        ),
        Table(
            "Rank correlation of the human mean with minus GMSD over cells",
            ("types", "cells", "the bank", "independent"),
            orders,
        ),
        Table(
            "All cells; PSNR in dB",
            ("type", "level", "human mean", "GMSD, bank", "GMSD, independent", "PSNR, bank", "PSNR, independent"),
            cells,
        ),
    )
    return "\n".join(f"{table.title}.\n\n{to_markdown(table)}" for table in tables)


def _compared(made, photo):
    """GMSD and PSNR in dB."""
    error = np.square(made.astype(np.float64) - photo).mean()
    return float(gmsd(np.float32(made / 255), np.float32(photo / 255))), 10 * np.log10(255**2 / max(error, 1e-3))


def _stretched(x):
    """The generator stretches its input and its output to the full range."""
    low, high = x.min(), x.max()
    return (x - low) / (high - low) if high > low else np.clip(x, 0, 1)


def _filtered(image, kernel):
    return np.stack([ndimage.correlate(plane, kernel, mode="nearest") for plane in np.moveaxis(image, -1, 0)], axis=-1)


def _gaussian(image, sigma, axes=(0, 1)):
    """Cut at two deviations, as MATLAB's `imgaussfilt`."""
    return ndimage.gaussian_filter(image, sigma, mode="nearest", radius=int(np.ceil(2 * sigma)), axes=axes)


def _disc(radius):
    """The share of each pixel inside a disc, by 16x16 samples of it."""
    reach = int(np.ceil(radius - 0.5))
    at = (np.arange(16 * (2 * reach + 1)) + 0.5) / 16 - reach - 0.5
    inside = (at[:, None] ** 2 + at[None, :] ** 2 <= radius**2).astype(float)
    kernel = inside.reshape(2 * reach + 1, 16, 2 * reach + 1, 16).mean(axis=(1, 3))
    return kernel / kernel.sum()


def _line(length, angle):
    """One pixel less the distance to a segment from the middle of its first to that of its last pixel."""
    reach = int(np.ceil(length / 2)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    beyond = np.maximum(np.abs(along) - (length - 1) / 2, 0)
    kernel = np.maximum(1 - np.hypot(beyond, across), 0)
    return kernel / kernel.sum()


def _lab(image):
    from skimage.color import rgb2lab

    return rgb2lab(image)


def _rgb(lab):
    import warnings

    from skimage.color import lab2rgb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # colors that no screen shows are clipped
        return np.clip(lab2rgb(lab), 0, 1)


def _diffused(rng, image, amount):
    lab = _lab(image)
    lab[..., 1:] = amount * _gaussian(lab[..., 1:], 1.5 * amount + 2)
    return _rgb(lab)


def _shifted(rng, image, amount):
    luma = image @ (0.2989, 0.5870, 0.1140)
    edges = _stretched(_gaussian(np.hypot(*np.gradient(luma)), 4))
    edges = np.clip(edges, 0.1, 1)
    edges = _stretched(np.clip(edges, *np.percentile(edges, (1, 99))))
    way = rng.random(2)
    moves = np.rint(amount * way / np.linalg.norm(way))
    green = ndimage.shift(image[..., 1], moves, order=1, mode="nearest")
    made = image.copy()
    made[..., 1] = edges * green + (1 - edges) * image[..., 1]
    return made


def _few_colors(rng, image, colors):
    picture = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    palette = picture.quantize(int(colors), Image.Quantize.MEDIANCUT, kmeans=1000)
    return np.asarray(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")) / 255


def _less_saturated(rng, image, factor):
    value = image.max(axis=-1, keepdims=True)
    return value - factor * (value - image)  # may exceed 1: stretched afterwards, as there


def _more_saturated(rng, image, factor):
    lab = _lab(image)
    lab[..., 1:] *= factor
    return _rgb(lab)


def _encoded(image, kind, **options):
    file = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(file, kind, **options)
    return np.asarray(Image.open(file).convert("RGB")) / 255


def _component_noise(rng, image, variance):
    to = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
    there = image @ to.T + np.array([16, 128, 128]) / 255
    noisy = np.clip(there + np.sqrt(variance) * rng.standard_normal(image.shape), 0, 1)
    return np.clip((noisy - np.array([16, 128, 128]) / 255) @ np.linalg.inv(to).T, 0, 1)


def _impulses(rng, image, density):
    draw = rng.random(image.shape)
    return np.where(draw < density / 2, 0.0, np.where(draw < density, 1.0, image))


def _denoised(rng, image, variance):
    from skimage.restoration import denoise_nl_means

    sigma = np.sqrt(variance)
    noisy = np.clip(image + sigma * rng.standard_normal(image.shape), 0, 1)
    settings = {"patch_size": 5, "patch_distance": 6, "h": 0.6 * sigma, "sigma": sigma}
    return np.clip(denoise_nl_means(noisy, **settings, fast_mode=True, channel_axis=-1), 0, 1)


def _curved(x, amount):
    """The parabola through (0, 0), (.5, .5 + amount / 2), (1, 1)."""
    return np.clip(np.polyval(np.polyfit([0, 0.5, 1], [0, 0.5 + amount / 2, 1], 2), x), 0, 1)


def _brightened(rng, image, amount):
    lab = _lab(image)
    lab[..., 0] = 100 * _curved(lab[..., 0] / 100, amount)
    return (2 * _curved(image, amount) + _rgb(lab)) / 3


def _jittered(rng, image, sigma):
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    for _ in range(5):
        moves = sigma * rng.standard_normal((2, *image.shape[:2]))
        at = [y - moves[0], x - moves[1]]
        planes = [ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in np.moveaxis(image, -1, 0)]
        image = np.stack(planes, axis=-1)
    return image


def _patches(rng, image, count):
    made, side = image.copy(), 16
    for _ in range(int(count)):
        start = [side + round(rng.random() * (length - 3 * side)) for length in image.shape[:2]]
        end = [round((rng.random() - 0.5) * side + place) for place in start]
        patch = made[start[0] : start[0] + side, start[1] : start[1] + side].copy()
        made[end[0] : end[0] + side, end[1] : end[1] + side] = patch
    return made


def _pixelated(rng, image, strength):
    def nearest(x, height, width):
        rows, columns = (
            np.floor((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip((height, width), x.shape, strict=False)
        )
        return x[rows][:, columns]

    scale = 0.95 - strength**0.6
    small = nearest(image, *(int(np.ceil(scale * side)) for side in image.shape[:2]))
    return nearest(small, *image.shape[:2])


def _thresholds(image, count):
    """The `count` thresholds that maximize the variance between classes of all samples (Otsu), on 256 levels."""
    weight = np.bincount(np.rint(image * 255).astype(int).ravel(), minlength=256).astype(float)
    total = np.concatenate([[0], np.cumsum(weight)])
    first = np.concatenate([[0], np.cumsum(weight * np.arange(256))])
    mass, moment = total[None, :] - total[:, None], first[None, :] - first[:, None]
    # between[i, j]: what a class of the levels i to j - 1 adds to the variance between classes.
    between = np.where(mass > 0, moment**2 / np.maximum(mass, 1), np.where(np.tri(257, k=0).T > 0, 0.0, -np.inf))
    best, choices = between[0], []
    for _ in range(int(count)):
        sums = best[:, None] + between
        choices.append(sums.argmax(axis=0))
        best = sums.max(axis=0)
    places = [256]
    for choice in choices[::-1]:
        places.append(int(choice[places[-1]]))
    return (np.array(places[:0:-1]) - 0.5) / 255


def _quantized(rng, image, count):
    at = _thresholds(image, count)
    return np.concatenate([[0.0], at[1:], [1.0]])[np.digitize(image, at)]


def _blocks(rng, image, count):
    made = image.copy()
    for _ in range(int(count)):
        row, column = (int(rng.random() * (length - 32)) for length in image.shape[:2])
        made[row : row + 32, column : column + 32] = rng.random(3)
    return made


def _sharpened(rng, image, amount):
    lab = _lab(image)
    light = lab[..., 0]
    lab[..., 0] = light + amount * (light - _gaussian(light, 3.0))
    return _rgb(lab)


def _contrasted(rng, image, amount):
    heights = [0, 0.25 - amount / 4, 0.5, 0.75 + amount / 4, 1]
    return np.clip(CubicSpline([0, 0.3, 0.5, 0.7, 1], heights)(image), 0, 1)


_MAKERS: dict[str, Callable[[np.random.Generator, np.ndarray, float], np.ndarray]] = {
    "gaussian_blur": lambda rng, image, sigma: _gaussian(image, sigma),
    "lens_blur": lambda rng, image, radius: _filtered(image, _disc(radius)),
    "motion_blur": lambda rng, image, length: _filtered(image, _line(length, rng.uniform(0, np.pi))),
    "color_diffusion": _diffused,
    "color_shift": _shifted,
    "color_quantization": _few_colors,
    "color_saturation_1": _less_saturated,
    "color_saturation_2": _more_saturated,
    "jpeg2000": lambda rng, image, ratio: _encoded(
        image, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True
    ),
    "jpeg": lambda rng, image, quality: _encoded(image, "JPEG", quality=int(quality)),
    "white_noise": lambda rng, image, variance: np.clip(
        image + np.sqrt(variance) * rng.standard_normal(image.shape), 0, 1
    ),
    "white_noise_color_component": _component_noise,
    "impulse_noise": _impulses,
    "multiplicative_noise": lambda rng, image, variance: np.clip(
        image * (1 + np.sqrt(12 * variance) * (rng.random(image.shape) - 0.5)), 0, 1
    ),
    "denoise": _denoised,
    "brighten": _brightened,
    "darken": lambda rng, image, amount: _curved(image, -amount),
    "mean_shift": lambda rng, image, amount: np.clip(image + amount, 0, 1),
    "jitter": _jittered,
    "non_eccentricity_patch": _patches,
    "pixelate": _pixelated,
    "quantization": _quantized,
    "color_block": _blocks,
    "high_sharpen": _sharpened,
    "contrast_change": _contrasted,
}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"experiments.deduction.label_check: {error}")
