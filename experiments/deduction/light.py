"""Too little light as real photographs show it: noise at a sensor's own size, and darkness around lamps and windows."""

import numpy as np
from scipy.ndimage import gaussian_filter

from experiments.deduction.masks import box, half_plane, places

NOISE = 25.0, 36.0  # dB
# Its drop; ours. Blotches are seen more than KADID-10k's white noise of the same dB.
NOISE_SEEN, NOISE_DROPS = (25.0, 29.0, 32.0, 36.0), (0.6, 0.48, 0.38, 0.14)
STOPS, STOPS_DROPS = (1.0, 4.5), (0.1, 0.8)  # of light that a dark photograph lacks; its drop, ours


def noise(rng: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, float]:
    """A photograph (H, W, 3) uint8 with mild noise, blotchy or not, colored or not, stronger in the dark; its drop."""
    photo = photo.astype(np.float32)
    decibel, grain = rng.uniform(*NOISE), rng.uniform(0.0, 1.2)
    added = _grained(rng.standard_normal(photo.shape), grain)
    if rng.random() < 0.5:
        gray = _grained(rng.standard_normal(photo.shape[:2]), grain)[..., None]
        added = gray + rng.uniform(0.2, 0.8) * added
    added = added * (1.0 + rng.uniform(0.0, 2.0) * (1 - photo / 255))
    added = added * 255 * 10 ** (-decibel / 20) / added.std()
    made = np.clip(np.rint(photo + added), 0, 255).astype(np.uint8)
    return made, float(np.interp(decibel, NOISE_SEEN, NOISE_DROPS))


def dark(rng: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A photograph (H, W, 3) uint8 with too little light but for lamps, a window or the sky: real dark photographs are
    not evenly dark. Also where it is dark, (H, W) float32 in [0, 1], and the drop there."""
    height, width = photo.shape[:2]
    light = np.zeros((height, width), np.float32)
    if rng.random() < 0.5:
        light = _opening(rng, height, width)
    for _ in range(rng.integers(0, 8)):
        lamp = np.zeros((height, width), np.float32)
        lamp[rng.integers(height), rng.integers(width)] = 1
        lamp = gaussian_filter(lamp, rng.uniform(0.01, 0.06) * width)
        light = np.maximum(light, lamp / lamp.max())
    stops = rng.uniform(*STOPS)
    linear = (photo.astype(np.float32) / 255) ** 2.2
    linear *= 2.0 ** (-stops * (1 - light[..., None])) * (1 + rng.uniform(0, 1.5) * light[..., None])
    if rng.random() < 0.5:
        linear = linear + rng.uniform(0, 0.004) * rng.standard_normal(linear.shape)
    made = np.rint(255 * np.clip(linear, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    return made, 1 - light, float(np.interp(stops, STOPS, STOPS_DROPS))


def _opening(rng, height, width):
    """The light of the sky or of a window: a half plane or a box, with a soft or a hard edge."""
    inside = (half_plane if rng.random() < 0.5 else box)(rng, *places(height, width))
    return np.clip(inside * rng.uniform(0.3, 2.0) + 0.5, 0, 1)


def _grained(noise, grain):
    """Blurred over `grain` pixels, standard deviation 1."""
    if grain > 0.3:
        noise = gaussian_filter(noise, (grain, grain, 0)[: noise.ndim])
    return noise / noise.std()
