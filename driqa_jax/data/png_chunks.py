"""The chunks of a PNG: only those that its first picture needs reach the decoder.

Text of any size, an animation's frames and a wrong checksum outside the pixels therefore neither stop the decoder
nor cost memory.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import IO

from PIL import Image

PROFILE_LIMIT = 2**24  # bytes of an ICC profile, unpacked; a larger one is passed over
TEXT_LIMIT = 2**20  # as Pillow's own
# Texts in which an orientation may stand: XMP, and EXIF as ImageMagick writes it.
_ORIENTING = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_COLOUR_TYPE = 25  # its place in the file, in the header chunk


def first_picture(file: IO[bytes]) -> tuple[IO[bytes], bytes | None]:
    """The PNG with the chunks alone that its first picture needs, and its ICC profile (bytes or None)."""
    file.seek(_COLOUR_TYPE)
    colour = file.read(1)
    kept, dropped, profile = [(0, 8)], False, None
    for kind, start, length in _chunks(file):
        if kind[0] & 0x20:  # an ancillary chunk
            data = _useful(file, kind, length)
            if kind == b"iCCP" and data is not None:
                profile = _unpacked(data.partition(b"\0")[2], PROFILE_LIMIT)
            if data is None or not _needed(kind, data, colour):
                dropped = True
                continue
        kept.append((start, start + 12 + length))
    return (_copy(file, kept) if dropped else file), profile


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of the data of each chunk, to the end or to what is no chunk."""
    place, kind = 8, b""
    while kind != b"IEND":
        file.seek(place)
        head = file.read(8)
        kind, length = head[4:], int.from_bytes(head[:4], "big")
        if len(head) < 8 or not kind.isalpha():
            return
        yield kind, place, length
        place += 12 + length


def _useful(file: IO[bytes], kind: bytes, length: int) -> bytes | None:
    """The data of the chunk at whose data `file` stands; None where it is of no use: too long, damaged or unknown."""
    if kind not in (b"tRNS", b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt"):
        return None
    if length > (PROFILE_LIMIT if kind == b"iCCP" else TEXT_LIMIT):
        return None
    data, checksum = file.read(length), file.read(4)
    return data if zlib.crc32(kind + data).to_bytes(4, "big") == checksum else None


def _needed(kind: bytes, data: bytes, colour: bytes) -> bool:
    if kind == b"tRNS":
        return len(data) >= {b"\0": 2, b"\2": 6}.get(colour, 0)
    return kind == b"eXIf" or (kind != b"iCCP" and _may_orient(kind, data))


def _may_orient(kind: bytes, data: bytes) -> bool:
    key, _, rest = data.partition(b"\0")
    if key not in _ORIENTING:
        return False
    if kind == b"iTXt":
        return rest[:1] == b"\0"  # XMP is never packed
    return kind == b"tEXt" or _unpacked(rest, TEXT_LIMIT) is not None


def _unpacked(data: bytes, limit: int) -> bytes | None:
    """The bytes behind a method byte of 0; None where they are damaged, or more than `limit`."""
    if data[:1] != b"\0":
        return None
    unpack = zlib.decompressobj()
    try:
        found = unpack.decompress(data[1:], limit)
    except zlib.error:
        return None
    return None if unpack.unconsumed_tail else found


def _copy(file: IO[bytes], kept: list[tuple[int, int]]) -> IO[bytes]:
    size, copy = file.seek(0, io.SEEK_END), io.BytesIO()
    # What follows the last chunk and is none stays for the decoder to name.
    for start, stop in [*kept, (kept[-1][1], kept[-1][1] + 8)]:
        file.seek(start)
        copy.write(file.read(max(min(stop, size) - start, 0)))
    copy.seek(0)
    return copy


def scale_transparent_value(image: Image.Image) -> None:
    """Bring the transparent value of a PNG that is not loaded yet to its decoder's 8 bits, where Pillow does not."""
    hidden, layout = image.info.get("transparency"), str(image.tile[0].args) if image.tile else ""
    factor = {"L;2": 85, "L;4": 17}.get(layout)
    if isinstance(hidden, int) and factor:
        image.info["transparency"] = hidden * factor
    elif isinstance(hidden, tuple) and layout == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in hidden)
