"""The table of degradations, and `apply`, its door for one image."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.degradations import (
    blur,
    camera,
    chroma,
    color,
    compression,
    jpeg2000,
    noise,
    quantization,
    resample,
    restorer,
    sharpness,
    spatial,
    tone,
)

SMALLEST_SIDE = 32  # px; the widest kernels span 31


@dataclass(frozen=True)
class Degradation:
    """One type of degradation.

    name: as in KADID-10k where it has the type. group: a chain holds at most one type of a group.
    fn: pure `(key, image, severity) -> image`; float32 (H, W, 3) in [0, 1], severity a scalar in [0, 1], 0 =
    identity.
    ordered: whether more of it is worse to a person (rank supervision may use it), not only different.
    kadid_levels: the severities that give KADID-10k's levels 1 to 5, None where it has no such type or scale.
    chain_key: the key draws a parameter (an angle, a sign), which photos under one chain share; otherwise it
    draws pixels, and every photo has its own.
    """

    name: str
    group: str
    fn: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    ordered: bool
    kadid_levels: tuple[float, ...] | None = None
    chain_key: bool = False


def _levels(values: tuple[float, ...], full: float, power: float = 1.0) -> tuple[float, ...]:
    """Severities s with full * s**power equal to each value."""
    return tuple(round((value / full) ** (1 / power), 4) for value in values)


DEGRADATIONS: tuple[Degradation, ...] = (
    # KADID-10k's, by its numbers.
    Degradation(
        "gaussian_blur",
        "blur",
        blur.gaussian_blur,
        ordered=True,
        kadid_levels=_levels((0.1, 0.5, 1, 2, 5), blur.GAUSSIAN_SIGMA),
    ),
    Degradation(
        "lens_blur",
        "blur",
        blur.lens_blur,
        ordered=True,
        kadid_levels=_levels((0.5, 1.5, 3.5, 5.5, 7.5), blur.LENS_RADIUS - 0.5),
    ),
    Degradation(
        "motion_blur",
        "blur",
        blur.motion_blur,
        ordered=True,
        kadid_levels=_levels((1, 2, 4, 6, 10), blur.MOTION_LENGTH),
        chain_key=True,
    ),
    Degradation(
        "color_diffusion",
        "color",
        color.color_diffusion,
        ordered=True,
        kadid_levels=_levels((1, 3, 6, 8, 12), color.DIFFUSION_AMOUNT),
    ),
    Degradation(
        "color_shift",
        "color",
        color.color_shift,
        ordered=True,
        kadid_levels=_levels((1, 3, 6, 8, 12), color.SHIFT_LENGTH),
        chain_key=True,
    ),
    Degradation(
        "color_quantization",
        "quantization",
        quantization.color_quantization,
        ordered=True,
        kadid_levels=tuple(
            round(quantization.color_quantization_severity(colors), 4) for colors in (64, 48, 32, 16, 8)
        ),
    ),
    Degradation(
        "color_saturation_1",
        "color",
        color.color_saturation_1,
        ordered=False,
        kadid_levels=_levels((0.6, 0.8, 0.9, 1.0, 1.4), color.SATURATION_LOSS),
    ),
    Degradation(
        "color_saturation_2",
        "color",
        color.color_saturation_2,
        ordered=False,
        kadid_levels=_levels((0, 1, 2, 5, 8), color.SATURATION_GAIN),
    ),
    Degradation(
        "jpeg2000",
        "compression",
        jpeg2000.jpeg2000,
        ordered=True,
        # Steps at which ten photographs of 512x384 lose, in the geometric mean, what OpenJPEG loses at KADID-10k's
        # ratios 16, 32, 45, 120, 400.
        kadid_levels=tuple(round(jpeg2000.jpeg2000_severity(step), 4) for step in (17.9, 34.7, 46.4, 98, 245)),
    ),
    Degradation(
        "jpeg",
        "compression",
        compression.jpeg,
        ordered=True,
        kadid_levels=tuple(round(compression.jpeg_severity(quality), 4) for quality in (43, 36, 24, 7, 4)),
    ),
    Degradation(
        "white_noise",
        "noise",
        noise.white_noise,
        ordered=True,
        kadid_levels=_levels((0.001**0.5, 0.002**0.5, 0.003**0.5, 0.005**0.5, 0.1), noise.WHITE_SIGMA),
    ),
    Degradation(
        "white_noise_color_component",
        "noise",
        noise.white_noise_color_component,
        ordered=True,
        kadid_levels=_levels((0.0001**0.5, 0.0005**0.5, 0.001**0.5, 0.002**0.5, 0.003**0.5), noise.COMPONENT_SIGMA),
    ),
    Degradation(
        "impulse_noise",
        "noise",
        noise.impulse_noise,
        ordered=True,
        kadid_levels=_levels((0.001, 0.005, 0.01, 0.02, 0.03), noise.IMPULSE_DENSITY),
    ),
    Degradation(
        "multiplicative_noise",
        "noise",
        noise.multiplicative_noise,
        ordered=True,
        kadid_levels=_levels((0.001**0.5, 0.005**0.5, 0.01**0.5, 0.02**0.5, 0.05**0.5), noise.SPECKLE_SIGMA),
    ),
    Degradation(
        "denoise",
        "restorer",
        restorer.denoise,
        ordered=True,
        kadid_levels=_levels((0.01**0.5, 0.03**0.5, 0.05**0.5, 0.1**0.5, 0.15**0.5), restorer.DENOISED_SIGMA),
    ),
    Degradation(
        "brighten",
        "tone",
        tone.brighten,
        ordered=False,
        kadid_levels=_levels((0.1, 0.2, 0.4, 0.7, 1.1), tone.BRIGHTEN_AMOUNT),
    ),
    Degradation(
        "darken",
        "tone",
        tone.darken,
        ordered=False,
        kadid_levels=_levels((0.05, 0.1, 0.2, 0.4, 0.8), tone.DARKEN_AMOUNT),
    ),
    Degradation(
        "mean_shift",
        "tone",
        tone.mean_shift,
        ordered=False,
        # Amounts; KADID-10k's signs are + + 0 - -.
        kadid_levels=_levels((0.15, 0.08, 0, 0.08, 0.15), tone.MEAN_SHIFT),
        chain_key=True,
    ),
    Degradation(
        "jitter",
        "spatial",
        spatial.jitter,
        ordered=True,
        kadid_levels=_levels((0.05, 0.1, 0.2, 0.5, 1), 1.0),
    ),
    Degradation(
        "non_eccentricity_patch",
        "spatial",
        spatial.non_eccentricity_patch,
        ordered=False,
        kadid_levels=_levels((20, 40, 60, 80, 100), spatial.PATCH_DENSITY * 512 * 384),
    ),
    Degradation(
        "pixelate",
        "resolution",
        resample.pixelate,
        ordered=True,
        kadid_levels=tuple(
            round(resample.pixelate_severity(1 / (0.95 - a**0.6)), 4) for a in (0.01, 0.05, 0.1, 0.2, 0.5)
        ),
    ),
    Degradation(
        "quantization",
        "quantization",
        quantization.quantization,
        ordered=True,
        kadid_levels=tuple(round(quantization.quantization_severity(levels), 4) for levels in (20, 16, 13, 10, 7)),
    ),
    Degradation(
        "color_block",
        "spatial",
        spatial.color_block,
        ordered=False,
        kadid_levels=_levels((2, 4, 6, 8, 10), spatial.BLOCKS),
    ),
    Degradation(
        "high_sharpen",
        "sharpness",
        sharpness.high_sharpen,
        ordered=True,
        kadid_levels=_levels((1, 2, 3, 6, 12), sharpness.SHARPEN_AMOUNT, 1.5),
    ),
    Degradation(
        "contrast_change",
        "tone",
        tone.contrast_change,
        ordered=False,
        # Amounts; KADID-10k's signs are + + + - -.
        kadid_levels=_levels((0.5, 0.35, 0.2, 0.2, 0.4), tone.CONTRAST_BEND),
        chain_key=True,
    ),
    # Ours.
    Degradation("sensor_noise", "noise", noise.sensor_noise, ordered=True),
    Degradation("low_light", "camera", camera.low_light, ordered=True),
    Degradation("haze", "camera", camera.haze, ordered=True, chain_key=True),
    Degradation("resample", "resolution", resample.resample, ordered=True, chain_key=True),
    Degradation("ringing", "sharpness", sharpness.ringing, ordered=True),
    Degradation("chroma_subsampling", "compression", chroma.chroma_subsampling, ordered=True),
    Degradation("double_jpeg", "compression", compression.double_jpeg, ordered=True, chain_key=True),
    Degradation("over_smoothing", "restorer", restorer.over_smoothing, ordered=True),
    Degradation("halo", "restorer", restorer.halo, ordered=False),
)

NAMES: tuple[str, ...] = tuple(entry.name for entry in DEGRADATIONS)


def find(name: str) -> Degradation:
    """The degradation of this name. Raises ValueError, naming the nearest, for one that is not there."""
    if name in NAMES:
        return DEGRADATIONS[NAMES.index(name)]
    near = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0.0)
    raise ValueError(f"no degradation is called {name!r}; did you mean {near[0]!r}? All names: {', '.join(NAMES)}")


def apply(name: str, key: jax.Array, image: jax.Array, severity: jax.Array | float) -> jax.Array:
    """Degrade one image.

    name: one of NAMES. key: a random key (what it draws, if anything, is in the type's docstring).
    image: float32 (H, W, 3) sRGB in [0, 1], each side at least 32. severity: scalar in [0, 1], 0 = the image
    itself.
    Returns float32 (H, W, 3) in [0, 1]. Raises ValueError for an unknown name, a severity outside [0, 1] or
    values outside [0, 1] (where they are concrete, so not under jit), a wrong shape or a smaller image;
    TypeError for a dtype other than float32.
    """
    entry = find(name)
    if not isinstance(image, jax.Array):
        image = jnp.asarray(image)
    if image.dtype != jnp.float32:
        raise TypeError(f"{name}: the image is {image.dtype}; give float32 in [0, 1] (uint8 divided by 255)")
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"{name}: the image has shape {image.shape}; give (height, width, 3), and vmap for a batch")
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(
            f"{name}: the image is {image.shape[0]}x{image.shape[1]}, smaller than the kernels; "
            f"give at least {SMALLEST_SIDE}x{SMALLEST_SIDE}"
        )
    if jnp.ndim(severity) != 0:
        raise ValueError(f"{name}: the severity has shape {jnp.shape(severity)}; give one scalar in [0, 1]")
    if not isinstance(severity, jax.core.Tracer) and not 0.0 <= float(severity) <= 1.0:
        raise ValueError(f"{name}: the severity is {float(severity)}; give a number in [0, 1]")
    if not isinstance(image, jax.core.Tracer):
        # numpy: a picture that a traced function closes over is concrete, jax's operations on it are not.
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"{name}: the image spans [{low:g}, {high:g}]; give values in [0, 1]")
    return entry.fn(key, image, jnp.asarray(severity, jnp.float32))
