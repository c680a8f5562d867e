"""The degradations as a host pipeline has them: numpy, scipy, Pillow, and OpenCV where it is installed.

What `python -m benchmarks degradations` compares with. Each is a function (rng, image, severity) -> image on float32
(H, W, 3) in [0, 1], with the ranges of the device's; types without an obvious counterpart are left out.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from driqa_jax.degradations.compression import jpeg_quality

try:
    import cv2

    cv2.setNumThreads(1)  # photographs run side by side; threads within one would compete
except ImportError:
    cv2 = None

_KERNELS = tuple(getattr(Image.Resampling, name) for name in ("NEAREST", "BOX", "BILINEAR", "BICUBIC", "LANCZOS"))


def library() -> str:
    """What filters the pictures here."""
    return f"OpenCV {cv2.__version__}" if cv2 else "scipy"


def _gaussian(image, sigma):
    if sigma == 0:
        return image
    if cv2:
        return cv2.GaussianBlur(image, (31, 31), sigma, borderType=cv2.BORDER_REFLECT)
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="reflect", radius=(15, 15, 0))


def _filter(image, kernel):
    kernel = (kernel / kernel.sum()).astype(np.float32)
    if cv2:
        return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)
    return ndimage.convolve(image, kernel[:, :, None], mode="reflect")


def _offsets(radius):
    line = np.arange(-radius, radius + 1, dtype=np.float32)
    return line[:, None], line[None, :]


def gaussian_blur(rng, image, severity):
    return _gaussian(image, 5.0 * severity).clip(0, 1)


def lens_blur(rng, image, severity):
    y, x = _offsets(9)
    return _filter(image, (1.0 + 7.5 * severity - np.hypot(y, x)).clip(0, 1)).clip(0, 1)


def motion_blur(rng, image, severity):
    angle = rng.uniform(0, np.pi)
    y, x = _offsets(11)
    along = (np.abs(x * np.cos(angle) + y * np.sin(angle)) - 10.0 * severity).clip(0)
    across = y * np.cos(angle) - x * np.sin(angle)
    return _filter(image, (1.0 - np.hypot(along, across)).clip(0)).clip(0, 1)


def white_noise(rng, image, severity):
    noise = rng.standard_normal(image.shape, np.float32)
    return (image + 0.15 * severity * noise).clip(0, 1)


def white_noise_color_component(rng, image, severity):
    to_rgb = np.float32([[1, 1, 1], [0, -0.344, 1.772], [1.402, -0.714, 0]]) * 1.15
    noise = rng.standard_normal(image.shape, np.float32)
    return (image + 0.08 * severity * (noise @ to_rgb)).clip(0, 1)


def impulse_noise(rng, image, severity):
    draw, half = rng.random(image.shape, np.float32), 0.05 * severity
    return np.where(draw < half, np.float32(0), np.where(draw >= 1 - half, np.float32(1), image))


def multiplicative_noise(rng, image, severity):
    noise = rng.random(image.shape, np.float32) - np.float32(0.5)
    return (image * (1 + 0.35 * 12**0.5 * severity * noise)).clip(0, 1)


def _eight_bit(image):
    return Image.fromarray(np.rint(image * 255).astype(np.uint8))


def _floats(picture):
    return np.asarray(picture, np.float32) / np.float32(255)


def _through_file(image, **options):
    file = io.BytesIO()
    _eight_bit(image).save(file, **options)
    return _floats(Image.open(file))


def jpeg(rng, image, severity):
    return _through_file(image, format="JPEG", quality=round(float(jpeg_quality(severity))))


def double_jpeg(rng, image, severity):
    down, right = rng.integers(0, 8, 2)
    once = jpeg(rng, image, severity * rng.uniform(0.5, 1.0))
    wider = np.pad(once, ((8 - down, down), (8 - right, right), (0, 0)), "edge")
    height, width = image.shape[:2]
    return jpeg(rng, wider, severity)[8 - down : 8 - down + height, 8 - right : 8 - right + width]


def jpeg2000(rng, image, severity):
    rate = 16.0 * (400.0 / 16.0) ** severity  # KADID-10k's first and last
    return _through_file(image, format="JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[rate])


def chroma_subsampling(rng, image, severity):
    planes = _eight_bit(image).convert("YCbCr").split()
    small = [max(1, round(side / 16.0**severity)) for side in planes[0].size]
    chroma = [
        plane.resize(small, Image.Resampling.BOX).resize(plane.size, Image.Resampling.BILINEAR) for plane in planes[1:]
    ]
    return _floats(Image.merge("YCbCr", (planes[0], *chroma)).convert("RGB"))


def _down_up(image, factor, down, up):
    picture = _eight_bit(image)
    small = [max(1, round(side / factor)) for side in picture.size]
    return _floats(picture.resize(small, down).resize(picture.size, up))


def resample(rng, image, severity):
    down, up = rng.integers(0, len(_KERNELS), 2)
    return _down_up(image, 8.0**severity, _KERNELS[down], _KERNELS[up])


def pixelate(rng, image, severity):
    return _down_up(image, 8.0**severity, Image.Resampling.BOX, Image.Resampling.NEAREST)


def quantization(rng, image, severity):
    steps = np.float32(round(63 * (3 / 63) ** severity))
    return np.rint(image * steps) / steps


def high_sharpen(rng, image, severity):
    luma = image @ np.float32([0.299, 0.587, 0.114])
    blurred = (
        cv2.GaussianBlur(luma, (13, 13), 1.5, borderType=cv2.BORDER_REFLECT)
        if cv2
        else ndimage.gaussian_filter(luma, 1.5, mode="reflect", radius=6)
    )
    return (image + 12.0 * severity**1.5 * (luma - blurred)[:, :, None]).clip(0, 1)


def ringing(rng, image, severity):
    cutoff = 0.75 * (0.08 / 0.75) ** severity
    height, width = image.shape[:2]
    size = [fft.next_fast_len(side + 32, real=True) for side in (height, width)]
    margin = [(16, size[0] - height - 16), (16, size[1] - width - 16), (0, 0)]
    padded = np.pad(image, margin, "symmetric")
    frequency = np.hypot(fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None, :]).astype(np.float32)
    passed = ((cutoff - frequency) / 0.02 + 0.5).clip(0, 1)
    spectrum = fft.rfft2(padded, axes=(0, 1)) * passed[:, :, None]
    filtered = fft.irfft2(spectrum, s=size, axes=(0, 1))
    return filtered[16 : 16 + height, 16 : 16 + width].clip(0, 1)


def color_saturation_1(rng, image, severity):
    value = image.max(axis=2, keepdims=True)
    return (value - (1 - 1.4 * severity) * (value - image)).clip(0, 1)


def _parabola(values, amount):
    return (values + 2 * amount * values * (1 - values)).clip(0, 1)


def darken(rng, image, severity):
    return _parabola(image, -0.8 * severity)


def mean_shift(rng, image, severity):
    return (image + rng.choice((-0.3, 0.3)) * severity).clip(0, 1).astype(np.float32)


def contrast_change(rng, image, severity):
    centred = image - np.float32(0.5)
    bend = np.float32(rng.choice((-0.5, 0.5)) * severity / 0.168)
    return (image + bend * centred * (0.25 - centred * centred)).clip(0, 1)


def brighten(rng, image, severity):
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    lab[:, :, 0] = 100 * _parabola(lab[:, :, 0] / 100, 1.1 * severity)
    return (2 * _parabola(image, 1.1 * severity) + cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)) / 3


def color_saturation_2(rng, image, severity):
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    lab[:, :, 1:] *= 1 + 8 * severity
    return cv2.cvtColor(lab, cv2.COLOR_Lab2RGB).clip(0, 1)


def jitter(rng, image, severity):
    height, width = image.shape[:2]
    moves = np.float32(5**0.5 * severity) * rng.standard_normal((2, height, width), np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32) + moves
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


_WITH_OPENCV = (brighten, color_saturation_2, jitter)
HOST = {
    function.__name__: function
    for function in (
        *(gaussian_blur, lens_blur, motion_blur),
        *(white_noise, white_noise_color_component, impulse_noise, multiplicative_noise),
        *(jpeg, double_jpeg, jpeg2000, chroma_subsampling, resample, pixelate, quantization),
        *(high_sharpen, ringing, color_saturation_1, darken, mean_shift, contrast_change),
        *(_WITH_OPENCV if cv2 else ()),
    )
}
