"""Decode any image file to uint8 sRGB, as a viewer displays it."""

import contextlib
import importlib
import importlib.util
import io
import logging
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
from PIL import Image

from driqa_jax.data import png_chunks, raw, signatures, tiff
from driqa_jax.data.srgb import from_array, require_image_shape, to_srgb
from driqa_jax.errors import UnreadableImage

# Raster formats with an unmistakable header (MPO opens as JPEG). EPS and similar formats run other programs: left out.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico")
    + (".heic", ".heif", ".hif")
)
NOT_AN_IMAGE = "not a picture in a known format"
# Pillow warns about odd metadata and large sizes. Neither changes the pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to stderr if logging is not set up
# Registers the formats now, because threads would race to do it lazily. `Image.init` imports four times as many.
for _plugin in ("Bmp", "Gif", "Jpeg", "Ppm", "Png", "WebP", "Tiff", "Jpeg2K", "Avif", "Ico"):
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")
LARGE = 24e6  # pixels; larger images are decoded one at a time, so that threads do not multiply their memory
MAX_PIXELS = 200e6  # the default size limit
_large = threading.Lock()

ImageSource = bytes | str | os.PathLike | IO[bytes] | Image.Image | np.ndarray
Use = Callable[[Image.Image], Any] | None


def decode(source: ImageSource, max_pixels: float = MAX_PIXELS, name: str | None = None, use: Use = None) -> Any:
    """An image as a viewer displays it: uint8 (H, W, 3), sRGB.

    Applies the orientation, composites alpha over white, converts an ICC profile to sRGB (an unusable one is ignored)
    and scales 16 bits to 8. Of several images in a file it takes the first, of a HEIC the primary one, of a TIFF the
    first that is not a preview. A PIL image is read at its current frame, which does not change. A raw photo needs the
    extra `raw`, see `driqa_jax.data.raw`.

    Args:
      source: encoded bytes, a path, an open binary file, a PIL image, or a NumPy or JAX array: (H, W), (H, W, 1),
        (H, W, 3) or (H, W, 4) of uint8, uint16, or float in [0, 1]; excess up to `srgb.float_tolerance` is clipped.
      max_pixels: the only size limit.
      name: for errors, if the source has no path.
      use: receives the PIL image (mode RGB); its result is returned instead of the array, which saves a copy.

    Memory is 4 bytes per pixel, 8 during rotation or color conversion. Images above 24 megapixels are decoded one at a
    time, in all threads together.

    Raises UnreadableImage (not an image, truncated, empty, unsupported, above `max_pixels`), ValueError for an array of
    another shape, dtype or range.
    """
    if hasattr(source, "__array__") and not isinstance(source, Image.Image):
        array, name = np.asarray(source), name or "array"
        require_image_shape(array, name)
        _check_size(*array.shape[:2], max_pixels, name)
        array = from_array(array, name)
        return array if use is None else use(Image.fromarray(array))
    if isinstance(source, Image.Image):
        name = name or getattr(source, "filename", "") or "image"
        with _unreadable(name, source.format):
            tiff.refuse_raw(source, name)
            tiff.check_layout(source, name)
            return _finish(source, max_pixels, name, use)
    if isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        try:
            with open(source, "rb") as file:
                # A seekable file is read while it is decoded; a named pipe is read completely first.
                return _from_file(file if file.seekable() else io.BytesIO(file.read()), max_pixels, name, use)
        except OSError as error:
            raise UnreadableImage(name, error.strerror or str(error)) from None
    if not isinstance(source, (bytes, bytearray, memoryview)):
        if not hasattr(source, "read"):
            kind = type(source).__name__
            raise ValueError(f"cannot decode a {kind}: give bytes, a path, a file, an image or an array")
        name = name or str(getattr(source, "name", "file"))
        source = source.read()
    return _from_file(io.BytesIO(source), max_pixels, name or "bytes", use)


def stored_size(source: bytes, name: str = "bytes") -> tuple[int, int]:
    """Stored height and width of an encoded image (its orientation may swap them), read from its header.

    Raises UnreadableImage as `decode` does, as far as the header shows the problem.
    """
    file = io.BytesIO(source)
    head = file.read(signatures.HEAD)
    with _unreadable(name, signatures.decoded_format(head)):
        try:  # without the orientation, for which Pillow would decode a whole PNG
            with _open(file, head, name, MAX_PIXELS) as image:
                return image.height, image.width
        except signatures.RawPhoto as photo:
            return raw.stored_size(file, photo)


def _from_file(file: IO[bytes], max_pixels: float, name: str, use: Use) -> Any:
    head = file.read(signatures.HEAD)
    if not head:
        raise UnreadableImage(name, "the file is empty (zero bytes)")
    with _unreadable(name, signatures.decoded_format(head)):
        try:
            with _open(file, head, name, max_pixels) as image:
                return _finish(image, max_pixels, name, use)
        except signatures.RawPhoto as photo:
            with _large, pillow_limit.set_to(math.inf):  # LibRaw needs many times the memory of the image
                image = raw.open_raw(file, photo, lambda height, width: _check_size(height, width, max_pixels, name))
            return _finish(image, max_pixels, name, use)


def _open(file: IO[bytes], head: bytes, name: str, max_pixels: float) -> Image.Image:
    """The image of a file that `decode` reads.

    Raises RawPhoto for a raw photo and UnreadableImage for a known unsupported format, even if Pillow could open it.
    """
    if camera := signatures.raw_format(head):
        raise signatures.RawPhoto(name, camera)
    if reason := signatures.refusal(head):
        raise UnreadableImage(name, reason)
    kind, page, profile = signatures.decoded_format(head), 0, None
    if kind == "HEIC" and not register_heif():
        raise UnreadableImage(name, "a HEIC image; to decode it, pip install 'driqa_jax[heif]'")
    if kind == "PNG":
        file, profile = png_chunks.first_image(file)
    elif kind == "TIFF":
        page = tiff.page_to_read(file, name)
    file.seek(0)
    try:
        # Opening decodes an ICO; the size of the others is checked after they are opened.
        with pillow_limit.set_to(max_pixels if kind == "ICO" else math.inf):
            image = Image.open(file, formats=("HEIF",) if kind == "HEIC" else FORMATS)
            if page:
                image.seek(page)
    except (Image.UnidentifiedImageError, KeyError) as error:
        raise UnreadableImage(name, _why_not_opened(file, head, kind)) from error
    except Exception as error:
        if kind is None:  # Pillow tried a format that the signature does not show
            raise UnreadableImage(name, NOT_AN_IMAGE) from error
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
        return NOT_AN_IMAGE
    if kind == "TIFF" and (reason := tiff.unreadable(file)):
        return reason
    for factory, accept in (Image.OPEN[name] for name in (*FORMATS, "HEIF") if name in Image.OPEN):
        accepted = accept is None or accept(head[:16])
        if isinstance(accepted, str):  # Pillow knows the format but was built without it
            return f"{kind} file: {accepted}"
        if accepted:
            try:
                file.seek(0)
                factory(file, "")
            except Exception as error:
                return _described(error, kind)
    return f"damaged or truncated {kind} file"


def register_heif() -> bool:
    """Make Pillow open HEIC; returns False without the extra `heif`."""
    if "HEIF" not in Image.OPEN:
        if importlib.util.find_spec("pillow_heif") is None:
            return False
        import pillow_heif

        pillow_heif.register_heif_opener()
    return True


def _finish(image: Image.Image, max_pixels: float, name: str, use: Use) -> Any:
    _check_size(image.height, image.width, max_pixels, name)
    with _large if image.height * image.width > LARGE else contextlib.nullcontext():
        with pillow_limit.set_to(max_pixels):
            rgb = to_srgb(image, name)
        if raw.DECODED in image.info:
            rgb.info[raw.DECODED] = image.info[raw.DECODED]
        return (use or np.array)(rgb)


def _check_size(height: int, width: int, max_pixels: float, name: str) -> None:
    if height < 1 or width < 1:
        raise UnreadableImage(name, f"the picture has no pixels ({width}x{height})")
    if height * width > max_pixels:
        size = f"{width}x{height} is {height * width / 1e6:.1f} megapixels, above the limit of {max_pixels / 1e6:g}"
        raise UnreadableImage(name, f"{size}; raise it with --max-pixels {height * width}")


@contextlib.contextmanager
def _unreadable(name: str, kind: str | None) -> Iterator[None]:
    """Turns anything that Pillow raises in the block (OSError, SyntaxError, zlib.error, ...) into UnreadableImage."""
    try:
        yield
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
    if "decoder error" in reason:  # from libtiff, without details
        return f"{kind} that is damaged, truncated or of a form that cannot be read ({reason})"
    return f"damaged or truncated {kind} ({reason})"


class _PillowLimit:
    """Raises Pillow's process-wide size limit while we open and decode; we check `max_pixels` once a size is known.

    An image that we cannot see before it is decoded (a PNG in an ICO) is refused by Pillow above twice `max_pixels`.
    """

    def __init__(self) -> None:
        self._lock, self._original, self._active = threading.Lock(), None, []

    @contextlib.contextmanager
    def set_to(self, max_pixels: float) -> Iterator[None]:
        """Sets the limit in the block, or the highest of the limits of all threads in such a block."""
        with self._lock:
            if not self._active:
                self._original = Image.MAX_IMAGE_PIXELS
            self._active.append(max_pixels)
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._active.remove(max_pixels)
                self._apply()

    def _apply(self) -> None:
        largest = max(self._active, default=self._original)
        Image.MAX_IMAGE_PIXELS = None if largest == math.inf else largest


pillow_limit = _PillowLimit()
