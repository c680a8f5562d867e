"""Pass only those chunks of a PNG to the decoder that its first image needs.

So large texts, animation frames and wrong checksums outside the pixels neither stop the decoder nor cost memory.
"""

import io
import zlib
from collections.abc import Iterator
from typing import IO

from PIL import Image

PROFILE_LIMIT = 2**24  # bytes of a decompressed ICC profile; a larger one is ignored
TEXT_LIMIT = 2**20  # Pillow's own limit
# Texts that may contain an orientation: XMP, and EXIF as ImageMagick writes it.
_ORIENTING = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_COLOR_TYPE = 25  # offset in the file, inside the header chunk


def first_image(file: IO[bytes]) -> tuple[IO[bytes], bytes | None]:
    """The PNG reduced to the chunks that its first image needs, and its ICC profile (or None)."""
    file.seek(_COLOR_TYPE)
    color = file.read(1)
    kept, dropped, profile = [(0, 8)], False, None
    for kind, start, length in _chunks(file):
        if kind[0] & 0x20:  # an ancillary chunk
            data = _useful(file, kind, length)
            if kind == b"iCCP" and data is not None:
                profile = _unpacked(data.partition(b"\0")[2], PROFILE_LIMIT)
            if data is None or not _needed(kind, data, color):
                dropped = True
                continue
        kept.append((start, start + 12 + length))
    return (_copy(file, kept) if dropped else file), profile


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Type, offset and data length of each chunk, up to the end or to invalid data."""
    offset, kind = 8, b""
    while kind != b"IEND":
        file.seek(offset)
        head = file.read(8)
        kind, length = head[4:], int.from_bytes(head[:4], "big")
        if len(head) < 8 or not kind.isalpha():
            return
        yield kind, offset, length
        offset += 12 + length


def _useful(file: IO[bytes], kind: bytes, length: int) -> bytes | None:
    """The data of the chunk at the current position; None if it is too long, damaged or of an unused type."""
    used = kind in (b"tRNS", b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt")
    if not used or length > (PROFILE_LIMIT if kind == b"iCCP" else TEXT_LIMIT):
        return None
    data, checksum = file.read(length), file.read(4)
    return data if zlib.crc32(kind + data).to_bytes(4, "big") == checksum else None


def _needed(kind: bytes, data: bytes, color: bytes) -> bool:
    """Whether the decoder needs a chunk: a transparent value, or what may contain an orientation."""
    if kind == b"tRNS":
        return len(data) >= {b"\0": 2, b"\2": 6}.get(color, 0)
    key, _, rest = data.partition(b"\0")
    if kind in (b"eXIf", b"iCCP") or key not in _ORIENTING:
        return kind == b"eXIf"
    if kind == b"iTXt":
        return rest[:1] == b"\0"  # XMP is never compressed
    return kind == b"tEXt" or _unpacked(rest, TEXT_LIMIT) is not None


def _unpacked(data: bytes, limit: int) -> bytes | None:
    """The decompressed bytes after a method byte of 0; None if they are damaged or longer than `limit`."""
    if data[:1] != b"\0":
        return None
    unpack = zlib.decompressobj()
    try:
        unpacked = unpack.decompress(data[1:], limit)
    except zlib.error:
        return None
    return None if unpack.unconsumed_tail else unpacked


def _copy(file: IO[bytes], kept: list[tuple[int, int]]) -> IO[bytes]:
    size, copy = file.seek(0, io.SEEK_END), io.BytesIO()
    # Invalid data after the last chunk is kept, so that the decoder reports it.
    for start, stop in [*kept, (kept[-1][1], kept[-1][1] + 8)]:
        file.seek(start)
        copy.write(file.read(max(min(stop, size) - start, 0)))
    copy.seek(0)
    return copy


def scale_transparent_value(image: Image.Image) -> None:
    """Scale the transparent value of a PNG to 8 bits where Pillow does not. Call before the image is loaded."""
    hidden, layout = image.info.get("transparency"), str(image.tile[0].args) if image.tile else ""
    factor = {"L;2": 85, "L;4": 17}.get(layout)
    if isinstance(hidden, int) and factor:
        image.info["transparency"] = hidden * factor
    elif isinstance(hidden, tuple) and layout == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in hidden)
