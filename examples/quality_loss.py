"""Improve a blurred photo by the gradient of its score; fool the score; guard against that.

    python examples/quality_loss.py --figure docs/quality_loss.jpg

A photo is blurred, and the blurred one is changed so that `quality_loss` falls. Four ways to change it:

  free pixels      every pixel moves as it likes. The score passes that of the sharp original, and the picture
                   moves away from it: what is drawn is whatever excites the model, not detail. Never do this.
  guarded pixels   the same, but the picture must stay near its input (`FIDELITY` * squared distance), and each
                   step looks at it shifted, flipped and noisy, so that no single pattern can please every look.
                   Slower, still fooled: a term weak enough to allow sharpening allows a pattern of that size too.
  free filter      only three numbers move, the amounts of an unsharp mask at three radii. It cannot draw what the
                   model likes; but the score still likes too much sharpness, and the mask overshoots.
  guarded filter   the filter, near its input. Score, PSNR and SSIM rise together: that is an improvement.

The lesson: let the loss choose among pictures that are all plausible (few parameters, or a trained restorer), keep
a term that holds the result to the input, and report a distance to a reference beside the score, as here. PSNR and
SSIM are measured to the sharp original, which the optimization never sees. About a minute on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from scipy.ndimage import gaussian_filter

import driqa_jax as driqa
from driqa_jax.data.decode import decode
from driqa_jax.degradations.filters import convolve, gaussian_kernel
from driqa_jax.losses import quality_loss

BLUR = 1.2  # px, the standard deviation of the blur that is to be undone
RADII = (0.7, 1.4, 2.8)  # px, of the unsharp mask
PIXEL_STEP, AMOUNT_STEP = 0.004, 0.1  # Adam's; a pixel moves by about 1 of 255 a step
FIDELITY = 60.0  # loss per squared distance to the input, pixels in [0, 1]
PHOTO = pathlib.Path(__file__).resolve().parent / "photos" / "dog.jpg"

Picture = jax.Array  # (H, W, 3) float32 in [0, 1]


def blurred(picture: Picture, sigma: float) -> Picture:
    """Gaussian blur of `sigma` pixels."""
    return convolve(picture, gaussian_kernel(sigma, radius=8))


def sharpened(picture: Picture, amounts: jax.Array) -> Picture:
    """An unsharp mask at each of `RADII`; `amounts` (3,), 0 leaves the picture as it is."""
    detail = [amount * (picture - blurred(picture, sigma)) for amount, sigma in zip(amounts, RADII, strict=True)]
    return jnp.clip(picture + sum(detail), 0.0, 1.0)


def another_look(rng: np.random.Generator) -> Callable[[Picture], Picture]:
    """The picture moved by up to 8 pixels, perhaps flipped, with a little noise: as good to a person."""
    down, right = (int(n) for n in rng.integers(-8, 9, 2))
    flip, seed = bool(rng.integers(2)), int(rng.integers(2**31))

    def look(picture: Picture) -> Picture:
        moved = jnp.roll(picture, (down, right), axis=(0, 1))
        noise = 0.02 * jax.random.normal(jax.random.key(seed), picture.shape)
        return (moved[:, ::-1] if flip else moved) + noise

    return look


def descend(loss_and_gradient, make, start, step: float, steps: int, near: Picture | None = None, looks: bool = False):
    """Adam on the parameters of `make(parameters) -> picture`; returns the last picture.

    `near`: the picture to stay close to. `looks`: through `another_look` in every step. The model's gradient is
    the one compiled program; the chain rule goes on from it by hand.
    """
    optimizer, rng = optax.adam(step), np.random.default_rng(0)
    parameters, state = start, optimizer.init(start)
    for _ in range(steps):
        picture, to_parameters = jax.vjp(make, parameters)
        seen, to_picture = jax.vjp(another_look(rng) if looks else lambda x: x, picture)
        _, gradient = loss_and_gradient(seen[None])
        (gradient,) = to_picture(gradient[0])
        if near is not None:
            gradient = gradient + FIDELITY * 2 * (picture - near) / picture.size
        update, state = optimizer.update(to_parameters(gradient)[0], state)
        parameters = optax.apply_updates(parameters, update)
    return make(parameters)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two pictures in [0, 1]; infinite for equal ones."""
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0 else -10 * np.log10(error)


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two (H, W, 3) pictures in [0, 1]: Wang et al. 2004, a Gaussian window of 1.5 px."""

    def mean(x):
        return gaussian_filter(x, (1.5, 1.5, 0), truncate=3.5)

    a, b = a.astype(np.float64), b.astype(np.float64)
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return float(similar[5:-5, 5:-5].mean())  # where the window is whole


def run(scorer, clean: Picture, steps: int) -> dict[str, tuple[np.ndarray, float, float, float]]:
    """Every way, by name: the picture uint8, its score, and PSNR and SSIM to `clean`."""
    # Of a picture smaller than a tile all tiles are the same one; it is enough to look at it once.
    once = min(clean.shape[:2]) <= scorer.rule.tile
    rule = dataclasses.replace(scorer.rule, tiles=1) if once else scorer.rule
    loss = quality_loss(scorer.params, scorer.calibration, scorer.metadata["config"], rule)
    gradient = jax.jit(jax.value_and_grad(loss))
    soft = jnp.clip(blurred(clean, BLUR), 0.0, 1.0)

    def pixels(picture):
        return jnp.clip(picture, 0.0, 1.0)

    def mask(amounts):
        return sharpened(soft, amounts)

    zeros = jnp.zeros(len(RADII))
    ways = {
        "original": lambda: clean,
        "blurred": lambda: soft,
        "free pixels": lambda: descend(gradient, pixels, soft, PIXEL_STEP, steps),
        "guarded pixels": lambda: descend(gradient, pixels, soft, PIXEL_STEP, steps, near=soft, looks=True),
        "free filter": lambda: descend(gradient, mask, zeros, AMOUNT_STEP, steps),
        "guarded filter": lambda: descend(gradient, mask, zeros, AMOUNT_STEP, steps, near=soft),
    }
    found = {}
    reference = np.round(np.asarray(clean) * 255).astype(np.uint8) / 255
    for name, make in ways.items():
        picture = np.round(np.asarray(make()) * 255).astype(np.uint8)
        found[name] = picture, scorer(picture), psnr(picture / 255, reference), ssim(picture / 255, reference)
        _, *numbers = found[name]
        print("{:16s} score {:6.2f}   PSNR {:6.2f} dB   SSIM {:.4f}".format(name, *numbers), flush=True)
    return found


def draw(found: dict, path: str) -> None:
    """The pictures side by side with their numbers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.7), layout="constrained")
    axes = figure.subplots(2, 3).flat
    for axis, (name, (picture, score, db, similarity)) in zip(axes, found.items(), strict=True):
        distance = "" if name == "original" else f", PSNR {db:.1f}, SSIM {similarity:.3f}"
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(f"{name}\nscore {score:.1f}{distance}", fontsize=10)
        axis.set_axis_off()
    figure.savefig(path, dpi=100, pil_kwargs={"quality": 82, "optimize": True})


def main(argv: list[str] | None = None) -> int:
    """Run it; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", default=str(PHOTO), help="default: examples/photos/dog.jpg")
    parser.add_argument("--side", type=int, default=192, help="its middle becomes a square of so many pixels")
    parser.add_argument("--steps", type=int, default=24, help="of each descent (default: 24)")
    parser.add_argument("--figure", metavar="F.jpg", help="draw the pictures there")
    arguments = parser.parse_args(argv)
    photo = Image.fromarray(decode(arguments.photo))
    left, top = ((size - 2 * arguments.side) // 2 for size in photo.size)
    # Halved: a photo's own finest detail is soft, and there would be little to lose by a blur.
    middle = photo.crop((left, top, left + 2 * arguments.side, top + 2 * arguments.side)).reduce(2)
    found = run(driqa.load(), jnp.asarray(np.asarray(middle), jnp.float32) / 255, arguments.steps)
    if arguments.figure:
        draw(found, arguments.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
