"""Raw photos, through LibRaw (the extra `raw`): the embedded preview, or the developed sensor data."""

import importlib.util
import io
import os
from collections.abc import Callable
from typing import IO, Any

from PIL import Image

from driqa_jax.data.signatures import RawPhoto
from driqa_jax.errors import UnreadableImage

EXTENSIONS = frozenset(
    (".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw")
    + (".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f")
)
# Cameras write a file in one of these formats beside a raw photo of the same name.
COMPANIONS = frozenset((".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".hif", ".avif"))
PREVIEW_PIXELS = 2e6  # a smaller preview hides noise and blur
PREVIEW, DEVELOPED = "preview", "developed"
DECODED = "driqa_decoded"  # the key of `Image.info` that holds PREVIEW or DEVELOPED
_ORIENTATION = 0x0112
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}  # LibRaw's flip
_SRGB_CURVE = (2.4, 12.92)


def open_raw(file: IO[bytes], photo: RawPhoto, check_size: Callable[[int, int], None]) -> Image.Image:
    """A raw photo as an image whose `info[DECODED]` says which pixels these are.

    The preview that the camera embedded if it has at least `PREVIEW_PIXELS`; otherwise the sensor data, developed with
    the camera's white balance to sRGB and LibRaw's automatic brightness.

    file: the whole file, seekable. photo: the refusal, raised if the extra is not installed. check_size: called with
    height and width before the preview is decoded or the sensor data developed. Raises UnreadableImage if LibRaw cannot
    read the file.
    """
    return _with_libraw(file, photo, lambda raw: _preview(raw, check_size) or _developed(raw, check_size))


def stored_size(file: IO[bytes], photo: RawPhoto) -> tuple[int, int]:
    """Height and width of the sensor data, from the header. Raises UnreadableImage as `open_raw` does."""
    return _with_libraw(file, photo, lambda raw: (raw.sizes.height, raw.sizes.width))


def extension(name: str) -> str:
    """The lower-case extension of a file name, with the dot."""
    return os.path.splitext(name)[1].lower()


def available() -> bool:
    """Whether the extra `raw` is installed."""
    return importlib.util.find_spec("rawpy") is not None


def _with_libraw(file: IO[bytes], photo: RawPhoto, use: Callable[[Any], Any]) -> Any:
    if not available():
        raise photo
    import rawpy

    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            return use(raw)
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        said = error.args[0] if error.args else type(error).__name__
        said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise UnreadableImage(
            photo.path,
            f"a raw photo{photo.camera} that LibRaw cannot read ({said}); develop it first and score the JPEG",
        ) from error


def _preview(raw: Any, check_size: Callable[[int, int], None]) -> Image.Image | None:
    """The embedded preview if it is large and sound, upright."""
    import rawpy

    try:
        thumbnail = raw.extract_thumb()
        if thumbnail.format == rawpy.ThumbFormat.JPEG:
            image = Image.open(io.BytesIO(thumbnail.data), formats=("JPEG",))
        elif thumbnail.format == rawpy.ThumbFormat.BITMAP:
            image = Image.fromarray(thumbnail.data)
        else:
            return None
        if image.height * image.width < PREVIEW_PIXELS:
            return None
        check_size(image.height, image.width)
        image.load()
    except UnreadableImage:  # which is a ValueError
        raise
    except (rawpy.LibRawError, OSError, ValueError, SyntaxError):
        return None
    if _ORIENTATION not in image.getexif() and raw.sizes.flip in _TURNS:
        image = image.transpose(_TURNS[raw.sizes.flip])
    image.info[DECODED] = PREVIEW
    return image


def _developed(raw: Any, check_size: Callable[[int, int], None]) -> Image.Image:
    check_size(raw.sizes.height, raw.sizes.width)
    image = Image.fromarray(raw.postprocess(use_camera_wb=True, gamma=_SRGB_CURVE, output_bps=8))
    image.info[DECODED] = DEVELOPED
    return image
