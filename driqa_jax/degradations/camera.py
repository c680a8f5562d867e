"""Degradations of scene, exposure, sensor and development: haze, flare, light, white balance, and camera noise."""

import jax
import jax.numpy as jnp

from driqa_jax.degradations.color import linear_to_srgb, srgb_to_linear
from driqa_jax.degradations.compression import jpeg_at_quality, jpeg_quality
from driqa_jax.degradations.entry import degradation
from driqa_jax.degradations.filters import convolve, gaussian_kernel
from driqa_jax.degradations.noise import normal
from driqa_jax.degradations.sharpness import LUMA, local_wiener, luma_detail

HAZE_DENSITY = 2.0  # optical depth of the farthest point at severity 1; ours
NEAREST_DEPTH = 0.3  # relative to the farthest; ours
AIRLIGHT_LOW, AIRLIGHT_HIGH = 0.6, 0.9  # linear light; ours
DEPTH_CELLS = 3  # knots of the depth map along each side
LOST_STOPS = 4.0  # stops of light lost at severity 1; ours
GAINED_STOPS = 2.0  # stops of those that gain restores; ours
FULL_WELL = 300.0  # electrons at white in full light; ours
READ_ELECTRONS = 3.0  # ours
SHOT_GAIN = 0.05  # variance per unit of linear light; ours
READ_SIGMA = 0.01  # linear light; ours
UNDER_STOPS, OVER_STOPS = 3.5, 2.5  # at severity 1; ours
BLACK_LEVEL = 0.002  # linear light, subtracted too much at severity 1; ours
SHADOW_STEP = 1 / 500  # linear light, quantizer step at severity 1; ours
PHONE_SHOT, PHONE_READ = 0.08, 0.02  # as SHOT_GAIN and READ_SIGMA, of a small sensor at high gain; ours
PHONE_CHROMA = 4.0  # px, blur of chroma at severity 1; ours
PHONE_DENOISED = 0.1  # of full scale: the noise that the denoiser expects at severity 1; ours
PHONE_SHARPEN, PHONE_SHARPEN_SIGMA = 1.5, 1.2  # amount at severity 1, and px; ours
PHONE_JPEG = 0.45  # severity of its JPEG at severity 1: quality 56; ours
VEIL, GLOW = 0.2, 0.7  # share of veil far from the light, and what the light adds; ours
GLOW_REACH = 0.5  # of the longer side; ours
CAST_AMBER, CAST_GREEN = (0.9, 0.0, -1.1), (-0.5, 0.5, -0.5)  # stops at severity 1 along both axes; ours
LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709, of linear light


def _parity(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Parity of each pixel's row and column, int32 (H, W) both."""
    return jnp.indices(shape[:2])[0] % 2, jnp.indices(shape[:2])[1] % 2


def mosaic(image: jax.Array) -> jax.Array:
    """An image (H, W, 3) through a color filter array: (H, W), red where row and column are even, blue where both are
    odd, green elsewhere."""
    rows, columns = _parity(image.shape)
    return jnp.where(rows == columns, jnp.where(rows == 0, image[..., 0], image[..., 2]), image[..., 1])


def demosaic(raw: jax.Array) -> jax.Array:
    """Bilinear demosaicking of the result of `mosaic`, (H, W) -> (H, W, 3): a missing color is the mean of the two or
    four nearest pixels that sampled it. Mirrored borders keep the pattern."""
    rows, columns = _parity(raw.shape)
    wide = jnp.pad(raw, 1, mode="reflect")
    beside = (wide[1:-1, :-2] + wide[1:-1, 2:]) / 2
    above = (wide[:-2, 1:-1] + wide[2:, 1:-1]) / 2
    corners = (wide[:-2, :-2] + wide[:-2, 2:] + wide[2:, :-2] + wide[2:, 2:]) / 4
    green = jnp.where(rows != columns, raw, (beside + above) / 2)

    def sparse(parity: int) -> jax.Array:
        on_row, on_column = rows == parity, columns == parity
        return jnp.where(on_row, jnp.where(on_column, raw, beside), jnp.where(on_column, above, corners))

    return jnp.stack([sparse(0), green, sparse(1)], axis=-1)


@degradation(25, "noise")
def sensor_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Photon and read noise of a high-gain camera, in linear light under its color filter array.

    Each RGGB pixel has variance (0.05 * light + 0.01**2) * severity**2, about 20 photons at white for severity 1
    (normal approximation of the Poisson law). Bilinear demosaicking spreads the noise to the other colors in blotches.
    A share `severity` of demosaicking's own error (softness, color fringes) is added. Range: ours; not of KADID-10k.
    """
    light = srgb_to_linear(image)
    raw = mosaic(light)
    noise = jnp.sqrt(SHOT_GAIN * raw + READ_SIGMA**2) * normal(key, raw.shape)
    change = severity * (demosaic(raw + noise) - light)
    return jnp.clip(linear_to_srgb(jnp.clip(light + change, 0.0, 1.0)), 0.0, 1.0)


@degradation(26, "camera")
def low_light(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Low light: 4 * severity stops are lost, and gain restores half of them together with the noise.

    White is 300 * 2**(-4 * severity) electrons. Photon noise (normal approximation) and 3 electrons of read noise on
    the RGGB sensor are demosaicked bilinearly, then amplified. The noise is weighted by the severity, since the
    input in full light counts as noise-free. Range: ours; not a KADID-10k type.
    """
    electrons = FULL_WELL * jnp.exp2(-LOST_STOPS * severity)
    light = srgb_to_linear(image)
    sigma = severity * jnp.sqrt(electrons * mosaic(light) + READ_ELECTRONS**2) / electrons
    noise = demosaic(sigma * normal(key, image.shape[:2]))
    gain = jnp.exp2((GAINED_STOPS - LOST_STOPS) * severity)
    return jnp.clip(linear_to_srgb(jnp.clip(gain * (light + noise), 0.0, 1.0)), 0.0, 1.0)


def _knots_to_pixels(length: int) -> jax.Array:
    """Smooth interpolation of DEPTH_CELLS knots to pixels: (length, DEPTH_CELLS), each row sums to 1."""
    place = jnp.linspace(0.0, DEPTH_CELLS - 1.0, length)
    # Smoothstep between knots avoids visible creases.
    whole = jnp.clip(jnp.floor(place), 0.0, DEPTH_CELLS - 2.0)
    part = place - whole
    place = whole + part * part * (3.0 - 2.0 * part)
    return jnp.maximum(1.0 - jnp.abs(place[:, None] - jnp.arange(DEPTH_CELLS, dtype=jnp.float32)[None, :]), 0.0)


def haze_scene(key: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """What `haze` draws: a smooth depth map (H, W) in [0.3, 1] and near-gray airlight (3,) in linear light; float32."""
    k_depth, k_light, k_tint = jax.random.split(key, 3)
    knots = jax.random.uniform(k_depth, (DEPTH_CELLS, DEPTH_CELLS))
    relief = _knots_to_pixels(size[0]) @ knots @ _knots_to_pixels(size[1]).T
    depth = NEAREST_DEPTH + (1.0 - NEAREST_DEPTH) * relief
    gray = jax.random.uniform(k_light, minval=AIRLIGHT_LOW, maxval=AIRLIGHT_HIGH)
    return depth, gray * (1.0 + 0.08 * (jax.random.uniform(k_tint, (3,)) - 0.5))


@degradation(27, "camera", chain_key=True)
def haze(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Fog: J * t + A * (1 - t) in linear light, with t = exp(-depth * 2 * severity**1.5).

    The key draws a smooth depth in [0.3, 1] and the airlight A in [0.58, 0.94], see `haze_scene`.
    Source: Koschmieder's law as in He, Sun and Tang (2009). Range: ours; not a KADID-10k type.
    """
    depth, airlight = haze_scene(key, (image.shape[0], image.shape[1]))
    veil = -jnp.expm1(-HAZE_DENSITY * severity**1.5 * depth)[..., None]
    light = srgb_to_linear(image)
    return jnp.clip(linear_to_srgb(light + veil * (airlight[None, None, :] - light)), 0.0, 1.0)


@degradation(34, "camera")
def underexposed(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Underexposure by 3.5 * severity stops in linear light, with crushed and coarsely quantized shadows.

    A black level of 0.002 * severity is lost, then light is rounded to steps of severity / 500.
    Range: ours; not a KADID-10k type.
    """
    light = srgb_to_linear(image) * jnp.exp2(-UNDER_STOPS * severity)
    step = jnp.maximum(SHADOW_STEP * severity, 1e-6)
    light = jnp.round(jnp.maximum(light - BLACK_LEVEL * severity, 0.0) / step) * step
    return jnp.where(severity > 0, jnp.clip(linear_to_srgb(light), 0.0, 1.0), image)


@degradation(35, "camera")
def overexposed(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Overexposure by 2.5 * severity stops in linear light; each channel clips at white by itself.

    Range: ours; not a KADID-10k type.
    """
    light = jnp.minimum(srgb_to_linear(image) * jnp.exp2(OVER_STOPS * severity), 1.0)
    return jnp.clip(linear_to_srgb(light), 0.0, 1.0)


@degradation(38, "noise")
def camera_noise(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Noise as a phone's development leaves it: correlated over pixels and colors, blotchy, sharpened, compressed.

    Noise of variance (0.08 * light + 0.02**2) * severity**2 on an RGGB mosaic is demosaicked in linear light.
    Chroma is blurred (sigma 4 * severity px), luma filtered by a local Wiener filter that expects noise of sigma
    0.1 * severity, and sharpened by 1.5 * severity; JPEG follows (quality 95 to 56). Range: ours; not of KADID-10k.
    """
    light = srgb_to_linear(image)
    raw = mosaic(light)
    noise = jnp.sqrt(PHONE_SHOT * raw + PHONE_READ**2) * normal(key, raw.shape)
    change = severity * (demosaic(raw + noise) - light)
    noisy = linear_to_srgb(jnp.clip(light + change, 0.0, 1.0))
    luma = (noisy * jnp.asarray(LUMA, noisy.dtype)[None, None, :]).sum(axis=-1, keepdims=True)
    chroma = convolve(noisy - luma, gaussian_kernel(PHONE_CHROMA * severity, 12))
    clean = local_wiener(luma, (PHONE_DENOISED * severity) ** 2) + chroma
    sharp = clean + PHONE_SHARPEN * severity * luma_detail(clean, PHONE_SHARPEN_SIGMA, 5)
    coded = jpeg_at_quality(jnp.clip(sharp, 0.0, 1.0), jpeg_quality(PHONE_JPEG * severity))
    return jnp.where(severity > 0, coded, image)


def flare_scene(key: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """What `flare_haze` draws: the share of veil at severity 1, (H, W) in [0.2, 0.9], and the light (3,), both float32.

    The veil is brightest toward a source near the border of the image, and falls off as a Gaussian.
    """
    k_angle, k_tint = jax.random.split(key)
    angle = jax.random.uniform(k_angle, maxval=2 * jnp.pi)
    y, x = (jnp.arange(n) + 0.5 - n / 2 for n in size)
    reach = GLOW_REACH * max(size)
    above, beside = y - 0.5 * size[0] * jnp.sin(angle), x - 0.5 * size[1] * jnp.cos(angle)
    glow = jnp.exp(-0.5 * (above[:, None] ** 2 + beside[None, :] ** 2) / reach**2)
    warmth = jax.random.uniform(k_tint, maxval=0.3)
    return VEIL + GLOW * glow, 1.0 - warmth * jnp.asarray([0.0, 0.4, 1.0])


@degradation(39, "camera", chain_key=True)
def flare_haze(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Veiling glare: light from a source near the border flattens contrast, most of all on its side.

    In linear light, a share veil * severity**1.5 of the source's light replaces that of the scene. The key draws the
    direction of the source and how warm it is (`flare_scene`). Range: ours; not a KADID-10k type.
    """
    veil, source = flare_scene(key, (image.shape[0], image.shape[1]))
    light = srgb_to_linear(image)
    mixed = light + (veil * severity**1.5)[..., None] * (source[None, None, :] - light)
    return jnp.clip(linear_to_srgb(mixed), 0.0, 1.0)


@degradation(40, "color", chain_key=True)
def color_cast(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
    """Wrong white balance: channel gains in linear light along the blue-amber and green-magenta axes, clipped at white.

    The key draws an angle between the axes. At severity 1 red and blue differ by 2 stops on the first axis, and green
    from both by 1 stop on the second. The luminance of gray is kept. Range: ours; not a KADID-10k type.
    """
    angle = jax.random.uniform(key, maxval=2 * jnp.pi)
    stops = jnp.cos(angle) * jnp.asarray(CAST_AMBER) + jnp.sin(angle) * jnp.asarray(CAST_GREEN)
    gains = jnp.exp2(severity * stops)
    gains = gains / (gains * jnp.asarray(LUMINANCE)).sum()
    light = jnp.minimum(srgb_to_linear(image) * gains[None, None, :], 1.0)
    return jnp.where(severity > 0, jnp.clip(linear_to_srgb(light), 0.0, 1.0), image)
