"""Pixels to 8-bit sRGB: orientation, bit depth, alpha, ICC profiles, and arrays.

`ImageCms` and `ml_dtypes` are imported on first use: most images need neither.
"""

import contextlib
import io
from typing import Any

import numpy as np
from PIL import Image

from driqa_jax.data import tiff
from driqa_jax.errors import UnreadableImage

ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The fourth byte of these formats is often unused, so an alpha channel of zeros means opaque.
ALPHA_OR_UNUSED = ("BMP", "DIB", "ICO")


def _orientation(image: Image.Image) -> int:
    """The orientation that a loaded image still needs: Pillow and libheif rotate TIFF and HEIC while loading."""
    try:
        if image.format == "HEIF":
            return 1
        if image.format == "AVIF":  # only the container counts, which Pillow reports as EXIF; XMP does not
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
            return int(exif.get(ORIENTATION, 1))
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # the image may be intact even if its EXIF block is damaged
        return 1


def to_srgb(image: Image.Image, name: str) -> Image.Image:
    """An opened image as mode RGB, upright, over white. Raises UnreadableImage if the value of white is unknown."""
    image.load()
    transpose = _TRANSPOSES.get(_orientation(image))
    profile = image.info.get("icc_profile")
    kind = image.format
    image, alpha = _color_and_alpha(image, name)
    image = _apply_profile(image, profile)
    if alpha is not None and not (kind in ALPHA_OR_UNUSED and alpha.getextrema() == (0, 0)):
        white = Image.new("RGB", image.size, (255, 255, 255))
        image = Image.composite(image, white, alpha)
    return image if transpose is None else image.transpose(transpose)


def _color_and_alpha(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """An 8-bit L, RGB, CMYK or LAB image, and its alpha channel (L) or None."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled_to_8_bits(image, name)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("LA" if image.mode == "LA" else "RGBA")
        alpha = image.getchannel("A")
        return image.convert("L" if image.mode == "LA" else "RGB"), alpha
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _scaled_to_8_bits(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    values, white = np.asarray(image), tiff.white(image)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            kind = f"{image.format} file of " if image.format else ""
            reason = f"{kind}float samples outside [0, 1], whose white is unknown; convert it to 8 or 16 bits"
            raise UnreadableImage(name, reason)
        gray = _from_floats(values)
    elif values.min() < 0 or values.max() > white:
        raise UnreadableImage(name, "32-bit samples outside 0..65535 have no known white; convert it to 8 or 16 bits")
    else:
        gray = _from_16_bits(values, white)
    hidden = image.info.get("transparency")
    alpha = None if hidden is None else Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))
    return Image.fromarray(255 - gray if tiff.white_is_zero(image) else gray), alpha


def _from_16_bits(values: np.ndarray, white: int = 65535) -> np.ndarray:
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile or image.mode == "LAB":
        from PIL import ImageCms

        srgb = ImageCms.createProfile("sRGB")
        if profile and (source := _readable_profile(profile, image.mode)) is not None:
            # Viewers ignore a profile that lacks what the transform needs, such as its curves.
            with contextlib.suppress(ImageCms.PyCMSError):
                return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
        if image.mode == "LAB":
            return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), srgb, outputMode="RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _readable_profile(profile: bytes, mode: str) -> Any:
    """The profile, or None if viewers ignore it (damaged, or for another color space) or it is already sRGB."""
    from PIL import ImageCms

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ValueError):
        return None
    space = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}[mode]
    if opened.profile.xcolor_space.strip() != space:
        return None
    if mode == "RGB" and (opened.profile.profile_description or "").startswith("sRGB"):
        return None  # conversion would only cost time and a rounding step
    return opened


def _from_floats(values: np.ndarray) -> np.ndarray:
    # Slightly more than half: values halfway between two levels go up, whatever floating-point rounding did to them.
    return np.floor(values * 255 + 0.501).astype(np.uint8)


def float_tolerance(dtype: np.dtype) -> float | None:
    """How far values of a float dtype may exceed [0, 1]; None for other dtypes.

    The larger of the dtype's and float16's rounding step above 1, because wider values may come from float16. That is a
    quarter of an 8-bit level, so clipping changes no pixel.
    """
    if issubclass(dtype.type, np.floating):
        return float(max(np.finfo(dtype).eps, np.finfo(np.float16).eps))
    if dtype.kind not in "fV":  # those of JAX's extra dtypes
        return None
    import ml_dtypes

    try:
        return max(float(ml_dtypes.finfo(dtype).eps), float(np.finfo(np.float16).eps))
    except ValueError:
        return None


def require_image_shape(array: np.ndarray, name: str) -> None:
    """Raises ValueError unless the array is a non-empty (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."""
    label = f"{name}: {array.dtype} {array.shape}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"{label}: an image is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if 0 in array.shape:
        raise ValueError(f"{label}: an image has at least one pixel")


def from_array(array: np.ndarray, name: str) -> np.ndarray:
    """An array of such a shape as uint8 (H, W, 3), over white. Raises ValueError for another dtype or range."""
    label = f"{name}: {array.dtype} {array.shape}"
    tolerance = float_tolerance(array.dtype)
    if tolerance is not None:
        with np.errstate(over="ignore"):
            values = array.astype(np.float32)
        # This form rejects nan.
        if not (values.min() >= -tolerance and values.max() <= 1 + tolerance):
            raise ValueError(f"{label}: floats must lie in [0, 1] (divide by 255 first?)")
        array = _from_floats(np.clip(values, 0, 1))
    elif array.dtype == np.uint16:
        array = _from_16_bits(array)
    elif array.dtype != np.uint8:
        raise ValueError(f"{label}: an image is uint8, uint16 or floating point")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 4:
        alpha = array[:, :, 3:].astype(np.uint32)
        over = array[:, :, :3] * alpha + 255 * (255 - alpha)
        return ((over + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))
