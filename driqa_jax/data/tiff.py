"""Inspect the tags of a TIFF before decoding: raw photos, previews, layouts that Pillow reads incorrectly."""

from collections.abc import Iterator
from typing import IO, Any

from PIL import Image, ImagePalette, TiffImagePlugin

from driqa_jax.data.signatures import RawPhoto
from driqa_jax.errors import UnreadableImage

# Tags (TIFF 6.0, TIFF/EP, DNG).
SUBFILE, OLD_SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, MAKE, SAMPLES = 254, 255, 258, 259, 262, 271, 277
PLANAR, COLOR_MAP, SUB_IFDS, EXTRA, FORMAT, SUBSAMPLING, DNG_VERSION = 284, 320, 330, 338, 339, 530, 50706
WHITE_IS_ZERO, RGB, CMYK, YCBCR = 0, 2, 5, 6
ASSOCIATED = 1
RAW_PHOTOMETRIC = (32803, 34892)  # color filter array, linear sensor data
RAW_COMPRESSION = (32767, 32769, 32770, 34713, 65000, 65535)  # Sony, Epson, Samsung, Nikon, Kodak, Pentax
_PHOTOMETRIC = {0: "gray (white is zero)", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*"}
_FORMAT = {1: "unsigned integer", 2: "signed integer", 3: "float", 5: "complex integer", 6: "complex float"}
_CONVERT = "convert it to 8 or 16 bits a sample, interleaved RGB or gray"
MOST_DIRECTORIES = 64  # limit for damaged or malicious files

Tags = TiffImagePlugin.ImageFileDirectory_v2


def page_to_read(file: IO[bytes], name: str) -> int:
    """The index of the first page that is not a preview.

    Raises RawPhoto for a raw photo, UnreadableImage if all pages are previews.
    """
    try:
        directories = list(_directories(file))
        is_raw = any(_is_raw(tags) for tags, _ in directories)
    except Exception:  # damaged tags; Pillow may still read the first page
        return 0
    pages, hidden = ([tags for tags, is_sub in directories if is_sub == kind] for kind in (False, True))
    if is_raw:
        make = str(pages[0].get(MAKE, "")).strip("\0 ")
        raise RawPhoto(name, make if make.isprintable() else "")
    if not pages or not _is_preview(pages[0]):
        return 0
    whole = [number for number, tags in enumerate(pages) if not _is_preview(tags)]
    if not whole and not all(_is_preview(tags) for tags in hidden):
        raise UnreadableImage(name, "a TIFF whose pages are previews; its full image is in a SubIFD; save it as a page")
    return whole[0] if whole else 0


def refuse_raw(image: Image.Image, name: str) -> None:
    """Raises RawPhoto if a TIFF that the caller opened with Pillow is one."""
    file = getattr(image, "_fp", None) or getattr(image, "fp", None)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and hasattr(file, "seek"):
        position = file.tell()
        try:
            page_to_read(file, name)
        finally:
            file.seek(position)


def check_layout(image: Image.Image, name: str) -> None:
    """Raises UnreadableImage if Pillow would read the pixels of this TIFF incorrectly. Call before it is loaded."""
    if reason := _misread(_tags(image)):
        raise UnreadableImage(name, f"a TIFF of {reason}, which cannot be read; {_CONVERT}")


def unreadable(file: IO[bytes]) -> str | None:
    """Why Pillow cannot open this TIFF: the layout of its first page; None if the file is damaged."""
    tags = next((tags for tags, _ in _directories(file)), None)
    if tags is None or not all(isinstance(tags.get(size), int) for size in (256, 257)):
        return None
    layout = _misread(tags) or f"{_samples(tags)}, {_photometric(tags)}"
    return f"a TIFF of {layout} (compression {tags.get(COMPRESSION, 1)}), which is not supported; {_CONVERT}"


def white_is_zero(image: Image.Image) -> bool:
    """Whether Pillow did not invert 16-bit or float samples of this TIFF although 0 is white."""
    return _tags(image).get(PHOTOMETRIC) == WHITE_IS_ZERO and image.mode in ("I;16", "F")


def white(image: Image.Image) -> int:
    """The value of white in an integer image with more than 8 bits."""
    return 4095 if _tuple(_tags(image), BITS, 1)[0] == 12 else 65535


def widen_palette(image: Image.Image) -> None:
    """Read a color map of 8-bit values from old programs as libtiff does. Call before the image is loaded."""
    colors = _tags(image).get(COLOR_MAP) if image.mode in ("P", "PA") else None
    if colors and max(colors) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(colors))


def _tags(image: Image.Image) -> Tags | dict:
    return getattr(image, "tag_v2", {})


def _directories(file: IO[bytes]) -> Iterator[tuple[Tags, bool]]:
    """The tags of each page (False) and of each of its SubIFDs (True)."""
    file.seek(0)
    head = file.read(8)
    head += file.read(8) if head[2:3] == b"+" or head[3:4] == b"+" else b""
    first = Tags(head)
    queue, visited = [(first.next, False)], set()
    while queue and len(visited) < MOST_DIRECTORIES:
        offset, sub = queue.pop(0)
        if not offset or offset in visited:
            continue
        visited.add(offset)
        tags = Tags(head)
        file.seek(offset)
        tags.load(file)
        yield tags, sub
        if not sub:
            queue += [(offset, True) for offset in _tuple(tags, SUB_IFDS) if isinstance(offset, int)]
            queue.append((tags.next, False))


def _tuple(tags: Tags | dict, tag: int, *default: int) -> tuple[Any, ...]:
    value = tags.get(tag, default)
    return value if isinstance(value, tuple) else (value,)


def _is_raw(tags: Tags) -> bool:
    sensor = tags.get(PHOTOMETRIC) in RAW_PHOTOMETRIC or tags.get(COMPRESSION) in RAW_COMPRESSION
    return sensor or DNG_VERSION in tags


def _is_preview(tags: Tags) -> bool:
    kind = tags.get(SUBFILE, 0)
    return bool(isinstance(kind, int) and kind & 1) or tags.get(OLD_SUBFILE) == 2


def _samples(tags: Tags | dict) -> str:
    bits = "/".join(str(number) for number in sorted(set(_tuple(tags, BITS, 1)), key=str))
    kinds = " and ".join(_FORMAT.get(kind, f"unknown (format {kind})") for kind in sorted(set(_tuple(tags, FORMAT, 1))))
    planes = "separate planes: " if tags.get(PLANAR, 1) == 2 and tags.get(SAMPLES, 1) > 1 else ""
    return f"{planes}{bits}-bit {kinds} samples, {tags.get(SAMPLES, 1)} a pixel"


def _photometric(tags: Tags | dict) -> str:
    photometric = tags.get(PHOTOMETRIC, 0)
    return _PHOTOMETRIC.get(photometric, f"photometric interpretation {photometric}")


def _misread(tags: Tags | dict) -> str | None:
    """The layout of a TIFF that Pillow silently reads incorrectly, or whose white is unknown; else None."""
    formats, bits = set(_tuple(tags, FORMAT, 1)), set(_tuple(tags, BITS, 1))
    photometric, packed = tags.get(PHOTOMETRIC, 0), tags.get(COMPRESSION, 1) != 1
    if formats & {2, 5, 6} or (3 not in formats and bits - set(range(1, 17))):
        return _samples(tags)  # signed or more than 16 bits: the value of white is unknown
    if 3 in formats and (tags.get(SAMPLES, 1) != 1 or bits != {32}):
        return _samples(tags)
    if 3 in formats and packed and tags.prefix == b"MM":
        return f"{_samples(tags)}, big-endian and compressed"
    if tags.get(PLANAR, 1) == 2 and tags.get(SAMPLES, 1) > 1:
        read = (RGB, CMYK, YCBCR) if packed else (RGB, CMYK)
        if photometric not in read or (not packed and (bits != {8} or ASSOCIATED in _tuple(tags, EXTRA))):
            return f"{_samples(tags)}, {_photometric(tags)}"
    if photometric == YCBCR and not packed and _tuple(tags, SUBSAMPLING, 2, 2) != (1, 1):
        return "subsampled YCbCr without compression"
    return None
