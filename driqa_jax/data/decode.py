"""Any picture file to uint8 sRGB, as a person sees it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import threading
from collections.abc import Callable
from typing import IO, Any

import ml_dtypes
import numpy as np
from PIL import Image, ImageCms

from driqa_jax.data import png_chunks, signatures, tiff
from driqa_jax.data.pillow_limits import pillow_limit
from driqa_jax.data.signatures import HEIF_BRANDS  # noqa: F401
from driqa_jax.errors import UnreadableImage

# Raster formats whose header is unmistakable. EPS and its kin run other programs, so they are left out.
# (MPO opens as JPEG.)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico")
    + (".heic", ".heif", ".hif")
)
NOT_A_PICTURE = "not a picture in a known format"
ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Formats in which the fourth byte is often unused: a picture that it would hide everywhere is opaque.
ALPHA_OR_UNUSED = ("BMP", "DIB", "ICO")
Image.init()  # registers all formats now: done lazily, threads race for it
_SRGB = ImageCms.createProfile("sRGB")
# Pictures above this size are decoded one at a time, so that threads do not multiply the memory of large ones.
LARGE = 24e6
MAX_PIXELS = 200e6  # the default limit of size
_large = threading.Lock()

ImageSource = bytes | str | os.PathLike | IO[bytes] | Image.Image | np.ndarray


def decode(
    source: ImageSource,
    max_pixels: float = MAX_PIXELS,
    name: str | None = None,
    use: Callable[[Image.Image], Any] | None = None,
) -> Any:
    """A picture as a person sees it: uint8 (H, W, 3), sRGB.

    The orientation is applied once, alpha is laid over white, an ICC profile is converted to sRGB (an unusable one is
    ignored), 16 bits are scaled to 8. A file with several images gives the first, a HEIC the primary image, a TIFF the
    first that is no preview. A PIL image is read at its current frame, which does not change.

    Args:
      source: encoded bytes, a path, an open binary file, a PIL image, or an array of NumPy or JAX: (H, W), (H, W, 1),
        (H, W, 3) or (H, W, 4) of uint8, uint16, or any float type in [0, 1]; values beyond the ends by at most
        `float_tolerance` are clipped.
      name: for errors, if the source has no path.
      use: receives the image as a PIL image of mode RGB; its result is returned instead of the array, which saves
        three bytes per pixel.

    A decoded pixel takes four bytes, eight while it is turned or its colours are converted; of pictures of more
    than 24 megapixels one is in memory at a time, whatever the number of threads.

    Raises UnreadableImage (no image, truncated, empty, a format or layout that is not decoded, more than
    `max_pixels`, the only limit of size), ValueError for an array of another shape, dtype or range.
    """
    if hasattr(source, "__array__") and not isinstance(source, Image.Image):
        array = _from_array(np.asarray(source), max_pixels, name or "array")
        return array if use is None else use(Image.fromarray(array))
    if isinstance(source, Image.Image):
        name = name or getattr(source, "filename", "") or "image"
        return _guarded(lambda: _handed_over(source, max_pixels, name, use), name, source.format)
    if isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        try:
            with open(source, "rb") as file:
                # Read as it is decoded; what cannot be rewound (a named pipe) is read whole.
                return _from_file(file if file.seekable() else io.BytesIO(file.read()), max_pixels, name, use)
        except OSError as error:
            raise UnreadableImage(name, error.strerror or str(error)) from None
    if not isinstance(source, (bytes, bytearray, memoryview)):
        if not hasattr(source, "read"):
            raise ValueError(
                f"cannot decode a {type(source).__name__}: give bytes, a path, a file, an image or an array"
            )
        name = name or str(getattr(source, "name", "file"))
        source = source.read()
    return _from_file(io.BytesIO(source), max_pixels, name or "bytes", use)


def stored_size(source: bytes, name: str = "bytes") -> tuple[int, int]:
    """Height and width of an encoded picture as stored (its orientation may swap them), from its header alone.

    Raises UnreadableImage as `decode` does, as far as the header tells.
    """
    file = io.BytesIO(source)
    head = file.read(signatures.HEAD)

    def look():
        # Not its orientation: Pillow decodes a whole PNG to look for that.
        with _open(file, head, name, MAX_PIXELS) as image:
            return image.height, image.width

    return _guarded(look, name, signatures.decoded_format(head))


def _from_file(file: IO[bytes], max_pixels: float, name: str, use) -> Any:
    head = file.read(signatures.HEAD)
    if not head:
        raise UnreadableImage(name, "the file is empty (zero bytes)")

    def read():
        with _open(file, head, name, max_pixels) as image:
            return _seen(image, max_pixels, name, use)

    return _guarded(read, name, signatures.decoded_format(head))


def _open(file: IO[bytes], head: bytes, name: str, max_pixels: float) -> Image.Image:
    """The first picture of a file: its primary one where the format has such, of a TIFF the first that is no preview.

    Raises UnreadableImage for what we know and do not decode, whatever Pillow would make of it.
    """
    if reason := signatures.refusal(head):
        raise UnreadableImage(name, reason)
    kind, page, profile = signatures.decoded_format(head), 0, None
    if kind == "HEIC" and not _register_heif():
        raise UnreadableImage(name, "a HEIC picture; to read these: pip install 'driqa_jax[heif]'")
    if kind == "PNG":
        file, profile = png_chunks.first_picture(file)
    elif kind == "TIFF":
        page = tiff.page_to_read(file, name)
    file.seek(0)
    try:
        # An ICO is decoded as it is opened; of the others we check the size once they are.
        with pillow_limit.set_to(max_pixels if kind == "ICO" else None):
            image = Image.open(file, formats=("HEIF",) if kind == "HEIC" else FORMATS)
            if page:
                image.seek(page)
    except (Image.UnidentifiedImageError, KeyError) as error:
        raise UnreadableImage(name, _why_not_opened(file, head, kind)) from error
    except Exception as error:
        if kind is None:  # Pillow tried a format of which the first bytes are no sign
            raise UnreadableImage(name, NOT_A_PICTURE) from error
        raise
    if kind == "PNG":
        image.info["icc_profile"] = profile
        png_chunks.scale_transparent_value(image)
    elif kind == "TIFF":
        tiff.check_layout(image, name)
        tiff.widen_palette(image)
    return image


def _why_not_opened(file: IO[bytes], head: bytes, kind: str | None) -> str:
    if kind is None:
        return NOT_A_PICTURE
    if kind == "TIFF" and (reason := tiff.unreadable(file)):
        return reason
    for factory, accept in (Image.OPEN[name] for name in (*FORMATS, "HEIF") if name in Image.OPEN):
        accepted = accept is None or accept(head[:16])
        if isinstance(accepted, str):  # Pillow knows the format, and was built without it
            return f"{kind} file: {accepted}"
        if accepted:
            try:
                file.seek(0)
                factory(file, "")
            except Exception as error:
                return _described(error, kind)
    return f"damaged or truncated {kind} file"


def _register_heif() -> bool:
    if "HEIF" not in Image.OPEN:
        if importlib.util.find_spec("pillow_heif") is None:
            return False
        import pillow_heif

        pillow_heif.register_heif_opener()
    return True


def _handed_over(image: Image.Image, max_pixels: float, name: str, use) -> Any:
    tiff.refuse_raw(image, name)
    tiff.check_layout(image, name)
    return _seen(image, max_pixels, name, use)


def _seen(image: Image.Image, max_pixels: float, name: str, use) -> Any:
    _check_size(image.height, image.width, max_pixels, name)
    with _large if image.height * image.width > LARGE else contextlib.nullcontext():
        with pillow_limit.set_to(max_pixels):
            found = _to_srgb(image, name)
        return (use or np.array)(found)


def _check_size(height: int, width: int, max_pixels: float, name: str) -> None:
    if height < 1 or width < 1:
        raise UnreadableImage(name, f"the picture has no pixels ({width}x{height})")
    if height * width > max_pixels:
        raise UnreadableImage(
            name,
            f"{width}x{height} is {height * width / 1e6:.1f} megapixels, above the limit of "
            f"{max_pixels / 1e6:g}; raise it with --max-pixels {height * width}",
        )


def _guarded(action, name: str, kind: str | None):
    """Whatever Pillow raises (OSError, SyntaxError, struct.error, zlib.error, ...) as UnreadableImage."""
    try:
        return action()
    except (UnreadableImage, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise UnreadableImage(name, f"a picture inside the {kind} file is above the limit of --max-pixels") from None
    except Exception as error:
        raise UnreadableImage(name, _described(error, kind)) from error


def _described(error: Exception, kind: str | None) -> str:
    reason, kind = str(error) or type(error).__name__, f"{kind} file" if kind else "picture"
    if any(word in reason.lower() for word in ("support", "cannot handle", "unknown")):
        return f"{kind} of a form that cannot be read ({reason}); convert it to PNG or JPEG"
    if "decoder error" in reason:  # libtiff's, which says no more
        return f"{kind} that is damaged, truncated or of a form that cannot be read ({reason})"
    return f"damaged or truncated {kind} ({reason})"


def _orientation(image: Image.Image) -> int:
    """The turn that is still to be made, once `image` is loaded: Pillow turns a TIFF, libheif a HEIC while it loads."""
    try:
        if image.format == "HEIF":
            return 1
        if image.format == "AVIF":  # XMP does not count there, the container does, which Pillow tells as EXIF
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
            return int(exif.get(ORIENTATION, 1))
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a mangled EXIF block says nothing; the picture itself may be whole
        return 1


def _to_srgb(image: Image.Image, name: str) -> Image.Image:
    image.load()
    turn = _TURNS.get(_orientation(image))
    profile = image.info.get("icc_profile")
    kind = image.format
    image, alpha = _colour_and_alpha(image, name)
    image = _apply_profile(image, profile)
    if alpha is not None and not (kind in ALPHA_OR_UNUSED and alpha.getextrema() == (0, 0)):
        white = Image.new("RGB", image.size, (255, 255, 255))
        image = Image.composite(image, white, alpha)
    return image if turn is None else image.transpose(turn)


def _colour_and_alpha(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """An 8-bit L, RGB, CMYK or LAB image, and its alpha as L or None."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled_to_8_bits(image, name)
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("LA" if image.mode == "LA" else "RGBA")
        alpha = image.getchannel("A")
        return image.convert("L" if image.mode == "LA" else "RGB"), alpha
    if image.mode == "1":
        return image.convert("L"), None
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("RGB"), None


def _scaled_to_8_bits(image, name):
    values, white = np.asarray(image), tiff.white(image)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            kind = f"{image.format} file of " if image.format else ""
            raise UnreadableImage(
                name, f"{kind}float samples outside [0, 1], whose white is unknown; convert it to 8 or 16 bits"
            )
        grey = np.rint(values * 255).astype(np.uint8)
    elif values.min() < 0 or values.max() > white:
        raise UnreadableImage(name, "32-bit samples outside 0..65535 have no known white; convert it to 8 or 16 bits")
    else:
        grey = _from_16_bits(values, white)
    hidden = image.info.get("transparency")
    alpha = None if hidden is None else Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))
    return Image.fromarray(255 - grey if tiff.white_is_zero(image) else grey), alpha


def _from_16_bits(values: np.ndarray, white: int = 65535) -> np.ndarray:
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile and (source := _readable_profile(profile, image.mode)) is not None:
        # A profile may lack what a transform needs (its curves, say); viewers pass over it.
        with contextlib.suppress(ImageCms.PyCMSError):
            return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    if image.mode == "LAB":
        return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), _SRGB, outputMode="RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _readable_profile(profile: bytes, mode: str):
    """The profile, or None where viewers ignore it: damaged, of another colour space, or sRGB already."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ValueError):
        return None
    space = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}[mode]
    if opened.profile.xcolor_space.strip() != space:
        return None
    if mode == "RGB" and (opened.profile.profile_description or "").startswith("sRGB"):
        return None  # the round trip through the colour engine would cost time and a rounding step
    return opened


def float_tolerance(dtype: np.dtype) -> float | None:
    """How far values of a float type may lie outside [0, 1]; None for a type that is no float.

    It is the type's rounding step above 1, and at least that of float16, in which wider values may have been computed:
    a quarter of an 8-bit level, so clipping changes no pixel of a wider type.
    """
    if dtype.kind not in "fV":  # the types that JAX adds are of kind V
        return None
    try:
        return max(float(ml_dtypes.finfo(dtype).eps), float(np.finfo(np.float16).eps))
    except ValueError:
        return None


def _from_array(array: np.ndarray, max_pixels: float, name: str) -> np.ndarray:
    said = f"{name}: {array.dtype} {array.shape}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"{said}: a picture is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if 0 in array.shape:
        raise ValueError(f"{said}: a picture has at least one pixel")
    _check_size(array.shape[0], array.shape[1], max_pixels, name)
    tolerance = float_tolerance(array.dtype)
    if tolerance is not None:
        with np.errstate(over="ignore"):
            values = array.astype(np.float32)
        # Written so that nan is refused.
        if not (values.min() >= -tolerance and values.max() <= 1 + tolerance):
            raise ValueError(f"{said}: floats must lie in [0, 1] (divide by 255 first?)")
        array = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    elif array.dtype == np.uint16:
        array = _from_16_bits(array)
    elif array.dtype != np.uint8:
        raise ValueError(f"{said}: a picture is uint8, uint16 or floating point")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 4:
        alpha = array[:, :, 3:].astype(np.uint32)
        over = array[:, :, :3] * alpha + 255 * (255 - alpha)
        return ((over + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))
