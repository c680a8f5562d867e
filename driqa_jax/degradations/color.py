"""Color and tone: CIELAB and the curves of sRGB; diffusion, channel shift, saturation; brightness, mean, contrast."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from driqa_jax.degradations.entry import degradation, severities
from driqa_jax.degradations.filters import apply_matrices, convolve, gaussian_kernel

DIFFUSION_AMOUNT = 12.0  # KADID-10k level 5
SHIFT_LENGTH = 12.0  # px, KADID-10k level 5
SATURATION_LOSS = 1.4  # KADID-10k level 5: factor -0.4
SATURATION_GAIN = 8.0  # KADID-10k level 5: factor 9
BRIGHTEN_AMOUNT = 1.1  # KADID-10k level 5
DARKEN_AMOUNT = 0.8  # KADID-10k level 5
MEAN_SHIFT = 0.3  # of the full range; twice KADID-10k's strongest, ours
CONTRAST_BEND = 0.5  # KADID-10k's strongest level

# IEC 61966-2-1, linear sRGB to CIE XYZ, with each row divided by D65 white (2 degrees): white is (1, 1, 1).
_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
TO_XYZ = _TO_XYZ / _WHITE[:, None]
FROM_XYZ = np.linalg.inv(TO_XYZ)
_EDGE = 6 / 29  # CIE 15: the cube root's tangent replaces it below this value


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """x ** exponent for x > 0; a quarter of the cost of `**` on a CPU, and as exact for exponents below 1."""
    return jnp.exp(exponent * jnp.log(x))


def srgb_to_linear(image: jax.Array) -> jax.Array:
    """sRGB values in [0, 1] to linear light in [0, 1], any shape (IEC 61966-2-1)."""
    lifted = (jnp.maximum(image, 0.04045) + 0.055) / 1.055
    return jnp.where(image <= 0.04045, image / 12.92, lifted * lifted * _power(lifted, 0.4))


def linear_to_srgb(light: jax.Array) -> jax.Array:
    """Linear light in [0, 1] to sRGB values in [0, 1], any shape (IEC 61966-2-1)."""
    curved = 1.055 * _power(jnp.maximum(light, 0.0031308), 1 / 2.4) - 0.055
    return jnp.where(light <= 0.0031308, light * 12.92, curved)


def _mix(matrix: np.ndarray, image: jax.Array) -> jax.Array:
    """Apply a 3x3 matrix to the last axis without a matrix product, which a GPU may round to TF32."""
    planes = [image[..., channel] for channel in range(3)]
    rows = [sum(float(w) * plane for w, plane in zip(row, planes, strict=True)) for row in matrix]
    return jnp.stack(rows, axis=-1)


def srgb_to_lab(image: jax.Array) -> jax.Array:
    """sRGB (..., 3) in [0, 1] to CIELAB under D65 (..., 3): L in [0, 100], a and b about +-100; float32."""
    xyz = _mix(TO_XYZ, srgb_to_linear(image))
    root = _power(jnp.maximum(xyz, _EDGE**3), 1 / 3)
    f = jnp.where(xyz > _EDGE**3, root, xyz / (3 * _EDGE**2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return jnp.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def lab_to_srgb(lab: jax.Array) -> jax.Array:
    """CIELAB under D65 (..., 3) to sRGB (..., 3), float32; out-of-gamut values are clipped to [0, 1]."""
    y = (lab[..., 0] + 16.0) / 116.0
    f = jnp.stack([y + lab[..., 1] / 500.0, y, y - lab[..., 2] / 200.0], axis=-1)
    xyz = jnp.where(f > _EDGE, f * f * f, (f - 4 / 29) * (3 * _EDGE**2))
    return linear_to_srgb(jnp.clip(_mix(FROM_XYZ, xyz), 0.0, 1.0))


def blur_matrix(length: int, sigma: jax.Array) -> jax.Array:
    """Matrix (length, length) that blurs a line by a Gaussian, with two reflections at each end; sigma < length."""
    index = jnp.arange(length, dtype=jnp.float32)
    there, back = index[:, None] - index[None, :], index[:, None] + index[None, :] + 1.0
    # As in `gaussian_kernel`, sigma 0 is the identity and needs no division by 0.
    scale = -0.5 / jnp.maximum(sigma, 1e-2) ** 2
    terms = (
        jnp.exp(scale * (distance + turn * 2 * length) ** 2)
        for distance, turns in ((there, (-1, 0, 1)), (back, (-1, 0)))
        for turn in turns
    )
    weights = sum(terms, start=jnp.zeros_like(there))
    return weights / weights.sum(axis=1, keepdims=True)


@degradation(3, "color", kadid_levels=severities((1, 3, 6, 8, 12), DIFFUSION_AMOUNT))
def color_diffusion(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Blur CIELAB's a and b (sigma 1.5 A + 2 px) and scale them by A = 12 * severity; lightness stays.

    Below A = 1 the scale is 1 and sigma is 3.5 A, which makes severity 0 the identity.
    Range and curve: KADID-10k #04, A of 1, 3, 6, 8, 12 (its kernel ends at two sigma).
    """
    amount = DIFFUSION_AMOUNT * jnp.asarray(severity, jnp.float32)
    lab = srgb_to_lab(image)
    sigma = jnp.minimum(3.5 * amount, 1.5 * amount + 2.0)
    # Two matrix products, since the FFT would need padding to three times the area for a blur this wide.
    rows, columns = (blur_matrix(length, sigma) for length in image.shape[:2])
    chroma = apply_matrices(lab[..., 1:], rows, columns) * jnp.maximum(amount, 1.0)
    out = lab_to_srgb(jnp.concatenate([lab[..., :1], chroma], axis=-1))
    return jnp.where(severity > 0, out, image)


def _edges(image: jax.Array) -> jax.Array:
    """Edge strength near each pixel: blurred magnitude of the luma gradient over its maximum, (H, W, 1)."""
    luma = 0.2989 * image[..., 0] + 0.5870 * image[..., 1] + 0.1140 * image[..., 2]
    padded = jnp.pad(luma, 1, mode="edge")
    dy = padded[2:, 1:-1] - padded[:-2, 1:-1]
    dx = padded[1:-1, 2:] - padded[1:-1, :-2]
    # 1e-8 keeps the derivative of the root finite where the image is flat.
    magnitude = jnp.sqrt(dy * dy + dx * dx + 1e-8)
    near = convolve(magnitude[..., None], gaussian_kernel(4.0, radius=8))
    return near / near.max()


@degradation(4, "color", kadid_levels=severities((1, 3, 6, 8, 12), SHIFT_LENGTH), chain_key=True)
def color_shift(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Displace green by 12 * severity pixels near edges. The key draws the direction.

    `_edges` weights the displaced channel against the original one, so flat regions stay unchanged.
    Range: KADID-10k #05 displaces by 1, 3, 6, 8, 12 whole pixels within one quadrant, and clips the weights at their
    1st and 99th percentile.
    """
    angle = jax.random.uniform(key, maxval=2 * jnp.pi)
    length = SHIFT_LENGTH * jnp.asarray(severity, jnp.float32)
    height, width, _ = image.shape
    margin = int(SHIFT_LENGTH) + 1
    down, right = length * jnp.sin(angle), length * jnp.cos(angle)
    row, column = jnp.floor(down), jnp.floor(right)
    start = (row.astype(jnp.int32) + margin, column.astype(jnp.int32) + margin)
    green = image[..., 1]
    window = lax.dynamic_slice(jnp.pad(green, (margin, margin + 1), mode="edge"), start, (height + 1, width + 1))
    window = window[:-1] + (down - row) * (window[1:] - window[:-1])
    moved = window[:, :-1] + (right - column) * (window[:, 1:] - window[:, :-1])
    green = green + _edges(image)[..., 0] * (moved - green)
    return jnp.clip(jnp.stack([image[..., 0], green, image[..., 2]], axis=-1), 0.0, 1.0)


@degradation(6, "color", ordered=False, kadid_levels=severities((0.6, 0.8, 0.9, 1.0, 1.4), SATURATION_LOSS))
def color_saturation_1(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Scale HSV saturation by 1 - 1.4 * severity: pale, then gray (severity 0.71), then inverted hues.

    For fixed hue and value a channel is max - S * k, so scaling S scales the distance to the maximum. KADID-10k #07.
    """
    value = image.max(axis=-1, keepdims=True)
    return jnp.clip(value - (1.0 - SATURATION_LOSS * severity) * (value - image), 0.0, 1.0)


@degradation(7, "color", ordered=False, kadid_levels=severities((0, 1, 2, 5, 8), SATURATION_GAIN))
def color_saturation_2(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Scale CIELAB's a and b by 1 + 8 * severity, clipped to sRGB. KADID-10k #08 has factors 1, 2, 3, 6, 9."""
    factor = 1.0 + SATURATION_GAIN * jnp.asarray(severity, jnp.float32)
    lab = srgb_to_lab(image)
    out = lab_to_srgb(jnp.concatenate([lab[..., :1], lab[..., 1:] * factor], axis=-1))
    return jnp.where(severity > 0, out, image)


def _parabola(x: jax.Array, amount: jax.Array) -> jax.Array:
    """The parabola through (0, 0), (.5, .5 + amount / 2), (1, 1), clipped to [0, 1]; any shape."""
    return jnp.clip(x + 2 * amount * x * (1.0 - x), 0.0, 1.0)


@degradation(15, "tone", ordered=False, kadid_levels=severities((0.1, 0.2, 0.4, 0.7, 1.1), BRIGHTEN_AMOUNT))
def brighten(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Lift mid-tones: two thirds of a parabola on sRGB plus one third of the same parabola on CIELAB lightness.

    The parabola of KADID-10k #16 passes through (0, 0), (.5, .5 + a/2), (1, 1), with a = 1.1 * severity; whites clip.
    """
    amount = BRIGHTEN_AMOUNT * jnp.asarray(severity, jnp.float32)
    lab = srgb_to_lab(image)
    light = 100.0 * _parabola(jnp.clip(lab[..., :1] / 100.0, 0.0, 1.0), amount)
    lighter = lab_to_srgb(jnp.concatenate([light, lab[..., 1:]], axis=-1))
    return jnp.where(severity > 0, (2.0 * _parabola(image, amount) + lighter) / 3.0, image)


@degradation(16, "tone", ordered=False, kadid_levels=severities((0.05, 0.1, 0.2, 0.4, 0.8), DARKEN_AMOUNT))
def darken(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Lower mid-tones: the parabola through (0, 0), (.5, .5 - a/2), (1, 1), with a = 0.8 * severity (KADID-10k #17)."""
    return _parabola(image, -DARKEN_AMOUNT * severity)


def _sign(key: jax.Array) -> jax.Array:
    """+1 or -1, float32, each with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)


@degradation(  # the levels are amounts; KADID-10k's signs are + + 0 - -
    17, "tone", ordered=False, kadid_levels=severities((0.15, 0.08, 0, 0.08, 0.15), MEAN_SHIFT), chain_key=True
)
def mean_shift(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Add +-0.3 * severity to every channel and clip; KADID-10k #18 up to 0.15. The key draws the sign."""
    return jnp.clip(image + _sign(key) * MEAN_SHIFT * severity, 0.0, 1.0)


@degradation(  # the levels are amounts; KADID-10k's signs are + + + - -
    24, "tone", ordered=False, kadid_levels=severities((0.5, 0.35, 0.2, 0.2, 0.4), CONTRAST_BEND), chain_key=True
)
def contrast_change(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Steepen or flatten mid-tones by an odd cubic around mid-gray. The key draws which; severity sets how much.

    With u = x - .5: .5 + u + b / .168 * u * (.25 - u * u), b = +-0.5 * severity, clipped.
    Curve: KADID-10k #25, whose not-a-knot spline through (0, 0), (.3, .25 - a/4), (.5, .5), (.7, .75 + a/4),
    (1, 1) is this cubic with b = a + .2; its a of .3, .15, 0, -.4, -.6 are b of .5, .35, .2, -.2, -.4.
    """
    bend = _sign(key) * CONTRAST_BEND * severity / 0.168
    centered = image - 0.5
    return jnp.clip(image + bend * centered * (0.25 - centered * centered), 0.0, 1.0)
