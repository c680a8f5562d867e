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

from driqa_jax.data.errors import UnreadableImage

# Raster formats whose header is unmistakable. EPS and its kin run other programs, so they are left out.
# (MPO opens as JPEG.)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico")
    + (".heic", ".heif", ".hif")
)
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
Image.init()  # registers all formats now: done lazily, threads race for it
_SRGB = ImageCms.createProfile("sRGB")
# Pictures above this size are decoded one at a time, so that threads do not multiply the memory of large ones.
LARGE = 24e6
_large = threading.Lock()

ImageSource = bytes | str | os.PathLike | IO[bytes] | Image.Image | np.ndarray


def decode(
    source: ImageSource,
    max_pixels: float = 200e6,
    name: str | None = None,
    use: Callable[[Image.Image], Any] | None = None,
) -> Any:
    """A picture as a person sees it: uint8 (H, W, 3), sRGB.

    EXIF orientation is applied, alpha laid over white, the first frame of an animation taken, an ICC profile
    converted to sRGB, 16 bits scaled to 8. `source`: encoded bytes, a path, an open binary file, a PIL image,
    or an array of numpy or JAX: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), of uint8, uint16, or any float type in
    [0, 1]; values that pass the ends by at most `float_tolerance` are clipped. `name` stands in errors where the
    source has no path. With `use`, what that makes of the picture as a PIL image of mode RGB comes back instead
    of the array, which costs three bytes a pixel more.

    A decoded pixel takes four bytes, eight while it is turned or its colours are converted; of pictures of more
    than 24 megapixels one is in memory at a time, whatever the number of threads.

    Raises UnreadableImage (no image, truncated, empty, more than `max_pixels`), ValueError for an array of
    another shape, dtype or range.
    """
    if hasattr(source, "__array__") and not isinstance(source, Image.Image):
        array = _from_array(np.asarray(source), max_pixels, name or "array")
        return array if use is None else use(Image.fromarray(array))
    if isinstance(source, Image.Image):
        name = name or getattr(source, "filename", "") or "image"
        return _guarded(lambda: _seen(source, max_pixels, name, use), name)
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

    def look():
        # Not its orientation: Pillow decodes a whole PNG to look for that.
        with _open(io.BytesIO(source), name) as image:
            return image.height, image.width

    return _guarded(look, name)


def _from_file(file: IO[bytes], max_pixels: float, name: str, use) -> Any:
    if not file.read(1):
        raise UnreadableImage(name, "the file is empty (zero bytes)")

    def read():
        with _open(file, name) as image:
            return _seen(image, max_pixels, name, use)

    return _guarded(read, name)


def _open(file: IO[bytes], name: str) -> Image.Image:
    file.seek(0)
    formats = ("HEIF",) if _is_heif(file.read(64)) else FORMATS
    if formats is not FORMATS and not _register_heif():
        raise UnreadableImage(name, "a HEIC picture; to read these: pip install 'driqa_jax[heif]'")
    file.seek(0)
    with _size_guard.lifted():
        return Image.open(file, formats=formats)


def _is_heif(head: bytes) -> bool:
    # The main brand may be the container's own, "mif1"; the codec's then stands among the compatible ones.
    return head[4:8] == b"ftyp" and head[8:12] != b"avif" and any(brand in head[8:] for brand in HEIF_BRANDS)


def _register_heif() -> bool:
    if "HEIF" not in Image.OPEN:
        if importlib.util.find_spec("pillow_heif") is None:
            return False
        import pillow_heif

        pillow_heif.register_heif_opener()
    return True


def _seen(image: Image.Image, max_pixels: float, name: str, use) -> Any:
    _check_size(image.height, image.width, max_pixels, name)
    with _large if image.height * image.width > LARGE else contextlib.nullcontext():
        return (use or np.array)(_to_srgb(image, name))


def _check_size(height: int, width: int, max_pixels: float, name: str) -> None:
    if height < 1 or width < 1:
        raise UnreadableImage(name, f"the picture has no pixels ({width}x{height})")
    if height * width > max_pixels:
        raise UnreadableImage(
            name,
            f"{width}x{height} is {height * width / 1e6:.1f} megapixels, above the limit of "
            f"{max_pixels / 1e6:g}; raise it with --max-pixels {height * width}",
        )


def _guarded(action, name):
    """Whatever Pillow raises (OSError, SyntaxError, struct.error, zlib.error, ...) as UnreadableImage."""
    try:
        return action()
    except (UnreadableImage, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImage(name, "not a picture in a known format") from None
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UnreadableImage(name, f"damaged or truncated picture ({reason})") from error


class _SizeGuard:
    """Lifts Pillow's process-wide size check while we look at a header; `max_pixels` is checked at once."""

    def __init__(self):
        self._lock, self._depth, self._kept = threading.Lock(), 0, None

    @contextlib.contextmanager
    def lifted(self):
        with self._lock:
            if self._depth == 0:
                self._kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    Image.MAX_IMAGE_PIXELS = self._kept


_size_guard = _SizeGuard()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a mangled EXIF block says nothing; the picture itself may be whole
        return 1


def _to_srgb(image: Image.Image, name: str) -> Image.Image:
    # Counting frames reads a file to its end; one just opened stands at its first.
    if image.tell() != 0 and getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    turn = _TURNS.get(_orientation(image))
    image.load()
    profile = image.info.get("icc_profile")
    image, alpha = _colour_and_alpha(image, name)
    image = _apply_profile(image, profile)
    if alpha is not None:
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
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise UnreadableImage(name, "float samples outside [0, 1] have no known white; convert it to 8 or 16 bits")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8)), None
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImage(name, "32-bit samples outside 0..65535 have no known white; convert it to 8 or 16 bits")
    grey = Image.fromarray(_from_16_bits(values))
    hidden = image.info.get("transparency")
    if hidden is None:
        return grey, None
    return grey, Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile and (source := _readable_profile(profile, image.mode)) is not None:
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
