"""Classical restorers with one strength each, and the model's restoration net.

A restorer maps an image, (H, W, 3) float32 in [0, 1], and a strength to an image; strength 0 is the identity. The
classical ones use scikit-image (the extra `protocol`).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.errors import UserError
from driqa_jax.models.restoration import require_restorer

PATCH, SEARCH = 5, 6  # px: side of a patch, search radius
WINDOW, SPATIAL_SIGMA = 9, 3.0  # px, of the bilateral filter
UNSHARP_SIGMA = 2.0  # px
WIENER_BALANCE = 0.01  # assumed noise-to-signal ratio
Restorer = Callable[[np.ndarray, float], np.ndarray]


def non_local_means(image: np.ndarray, strength: float) -> np.ndarray:
    """Non-local means; strength: filter parameter h, about the sigma of the noise in units of full scale."""
    return _skimage().denoise_nl_means(
        image, patch_size=PATCH, patch_distance=SEARCH, h=strength, fast_mode=True, channel_axis=-1
    )


def bilateral(image: np.ndarray, strength: float) -> np.ndarray:
    """Bilateral filter; strength: sigma in color in units of full scale."""
    return _skimage().denoise_bilateral(
        image, win_size=WINDOW, sigma_color=strength, sigma_spatial=SPATIAL_SIGMA, mode="symmetric", channel_axis=-1
    )


def unsharp(image: np.ndarray, strength: float) -> np.ndarray:
    """Unsharp mask; strength: factor of the detail that a Gaussian of sigma 2 px removes."""
    _skimage()
    from skimage.filters import unsharp_mask

    # Not channel_axis=-1: scikit-image 0.26 then sharpens three rows and leaves the rest uninitialized.
    return unsharp_mask(image, radius=UNSHARP_SIGMA, amount=strength, channel_axis=2)


def wiener(image: np.ndarray, strength: float) -> np.ndarray:
    """Wiener deconvolution; strength: sigma in px of the assumed Gaussian blur."""
    radius = max(1, round(3 * strength))
    offsets = np.arange(-radius, radius + 1)
    line = np.exp(-(offsets**2) / (2 * strength**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    # Mirror the border: the Fourier transform is periodic.
    margin = 4 * radius
    wide = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    channels = [_skimage().wiener(wide[..., c], kernel, WIENER_BALANCE, clip=False) for c in range(3)]
    return np.stack(channels, axis=-1)[margin:-margin, margin:-margin]


CLASSICAL: dict[str, Restorer] = {
    "non_local_means": non_local_means,
    "bilateral": bilateral,
    "unsharp": unsharp,
    "wiener": wiener,
}
NETWORK = "network"


def network(model, params: dict) -> Restorer:
    """The restoration net of a model; strength: factor of its residual, 1 as trained. Raises UserError without one."""
    require_restorer(params)
    variables = {"params": {name: params[name] for name in ("degradation_encoder", "restoration")}}

    @jax.jit
    def restored(images):
        d = model.apply(variables, images, method="encode_degradation").vector
        return model.apply(variables, images, d, method="restore")

    def run(image, strength):
        return image + strength * (np.asarray(restored(jnp.asarray(image)[None]))[0] - image)

    return run


def apply(restorer: Restorer, pixels: np.ndarray, strength: float) -> np.ndarray:
    """From (H, W, 3) uint8 to (H, W, 3) uint8."""
    image = pixels.astype(np.float32) / 255.0
    restored = restorer(image, strength) if strength else image
    return np.rint(np.clip(restored, 0.0, 1.0) * 255.0).astype(np.uint8)


def _skimage():
    try:
        from skimage import restoration
    except ImportError as error:
        raise UserError("classical restorers need scikit-image: pip install 'driqa_jax[protocol]'") from error
    return restoration
