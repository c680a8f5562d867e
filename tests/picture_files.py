"""Picture files of known pixels in every form of `test_decoder_table`, written without our decoder."""

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


class Case(NamedTuple):
    format: str
    orientation: int
    frame: str
    alpha: str
    depth: str
    photometric: str
    layout: str
    packed: bool
    order: str
    source: str


COLORS = {"rgb": 3, "gray": 1, "palette": 1, "cmyk": 4, "white is zero": 1}
# EXIF, tag 0x0112: how the stored rows and columns are seen.
SEEN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def samples(case: Case) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Stored 8-bit samples (H, W, C), alpha (H, W) or None, palette (N, 4) or None; flat blocks, no two turns alike."""
    random, levels = np.random.default_rng(7), np.array([0, 51, 102, 153, 204, 255], np.uint8)
    if case.depth == "1":
        levels = np.array([0, 1 if case.photometric == "palette" else 255], np.uint8)
    elif case.photometric == "palette":
        levels = np.arange(6, dtype=np.uint8)
    blocks = random.choice(levels, (4, 6, COLORS[case.photometric]))
    palette = None
    if case.photometric == "palette":
        palette = np.column_stack([random.permutation(256)[:18].reshape(6, 3), np.full(6, 255)])
        palette[:, 3] = {"none": 255, "straight": [0, 255, 51, 255, 255, 102], "zero": 0}[case.alpha]
        if case.format == "GIF":
            palette[1:, 3] = 0 if case.alpha == "zero" else 255
        palette = palette[: len(levels)]
    alpha = None
    if case.alpha != "none" and palette is None:
        alpha = random.choice(np.array([0, 51, 153, 255], np.uint8), (4, 6)) * np.uint8(case.alpha != "zero")
        if case.format == "GIF":
            alpha = (
                np.where(blocks[..., 0] == (51 if case.depth == "8" else 0), 0, 255)
                if case.alpha == "straight"
                else alpha
            )
    large = np.ones((16, 16), np.uint8)
    return np.kron(blocks, large[..., None]), None if alpha is None else np.kron(alpha, large), palette


def expected(case: Case) -> np.ndarray:
    pixels, alpha, palette = samples(case)
    values = pixels.astype(float)
    if case.photometric == "palette":
        values, alpha = palette[pixels[..., 0], :3].astype(float), palette[pixels[..., 0], 3]
    elif case.photometric == "cmyk":
        values = (255 - values[..., :3]) * (255 - values[..., 3:]) / 255
    elif case.photometric == "white is zero":
        values = 255 - values
    # A 32-bit BMP whose fourth byte is 0 everywhere does not use it.
    if alpha is not None and not (case.format == "BMP" and case.alpha == "zero"):
        share = alpha[..., None] / 255
        values = values * share + 255 * (1 - share)
    return SEEN[case.orientation](np.broadcast_to(values, (*values.shape[:2], 3)))


def image_of(case: Case, other: bool = False) -> Image.Image:
    """The stored picture as a PIL image; `other` is one for the frames that must not be seen."""
    pixels, alpha, palette = samples(case)
    if palette is not None:
        image = Image.fromarray(np.zeros_like(pixels[..., 0]) if other else pixels[..., 0]).convert("P")
        image.putpalette(palette[:, :3].astype(np.uint8).tobytes())
        image.frombytes((pixels[..., 0] * np.uint8(not other)).tobytes())
        return image
    bands = [255 - pixels if other else pixels] + ([alpha[..., None]] if alpha is not None else [])
    stored = np.concatenate(bands, axis=-1).astype(np.uint8)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "CMYK" if case.photometric == "cmyk" else "RGBA"}[stored.shape[-1]]
    return Image.frombytes(mode, stored.shape[1::-1], stored.tobytes())


def saved(case: Case, kind: str, **options) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = case.orientation
    images = [image_of(case), image_of(case, other=True)][:: -1 if case.frame == "primary" else 1]
    if case.orientation != 1:
        options["exif"] = exif.tobytes()
    if case.frame != "first":
        options |= {"save_all": True, "append_images": images[1:]}
    if case.frame == "primary":
        options["primary_index"] = 1
    images[0].save(file, kind, **options)
    return file.getvalue()


def write_jpeg(case: Case) -> bytes:
    return saved(case, "MPO" if case.frame == "animated" else "JPEG", quality=100, subsampling=0)


def write_webp(case: Case) -> bytes:
    return saved(case, "WEBP", lossless=True, exact=True, **({"duration": 50} if case.frame == "animated" else {}))


def write_heic(case: Case) -> bytes:
    return saved(case, "HEIF", quality=100, chroma=444)


def write_avif(case: Case) -> bytes:
    return saved(case, "AVIF", quality=100, subsampling="4:4:4", speed=10)


def write_gif(case: Case) -> bytes:
    """One color may be transparent; "zero": it is the only one."""
    pixels, alpha, palette = samples(case)
    if palette is None:
        indices = pixels[..., 0] // 51 if case.depth == "8" else pixels[..., 0] // 255
        palette = np.repeat(np.arange(0, 256, 51 if case.depth == "8" else 255)[:, None], 3, axis=1)
        hidden = 1 if case.depth == "8" else 0
    else:
        indices, hidden = pixels[..., 0], 0
    if case.alpha == "zero":
        indices, hidden = np.zeros_like(indices), 0
    frames = []
    for values in (indices, np.full_like(indices, 1)):
        frames.append(Image.frombytes("P", values.shape[::-1], values.astype(np.uint8).tobytes()))
        frames[-1].putpalette(palette[:, :3].astype(np.uint8).tobytes())
    options = {} if case.alpha == "none" else {"transparency": hidden}
    if case.frame == "animated":
        options |= {"save_all": True, "append_images": frames[1:], "duration": 50}
    file = io.BytesIO()
    frames[0].save(file, "GIF", optimize=False, **options)
    return file.getvalue()


def stored(case: Case, order: str, other: bool = False) -> np.ndarray:
    """The samples (H, W, C) in the depth and byte order of the file; of 1 bit as 0 and 1."""
    pixels, alpha, palette = samples(case)
    values = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=-1)
    top = 255 if palette is None else len(palette) - 1
    values = (top - values if other else values).astype(np.uint8)
    if case.depth == "16":
        return values.astype(f"{order}u2") * 257
    if case.depth == "float":
        return (values / 255).astype(f"{order}f4")
    return values // (255 if palette is None else 1) if case.depth == "1" else values


def rows_of(values: np.ndarray, case: Case) -> list[bytes]:
    if case.depth == "1":
        return [row.tobytes() for row in np.packbits(values[..., 0], axis=1)]
    return [row.tobytes() for row in values]


def chunk(kind: bytes, data: bytes, wrong: int = 0) -> bytes:
    """A chunk of a PNG; `wrong` spoils its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


def write_png(case: Case) -> bytes:
    def packed(other):
        return zlib.compress(b"".join(b"\0" + row for row in rows_of(stored(case, ">", other), case)))

    def control(number):
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))

    pixels, alpha, palette = samples(case)
    (height, width), color = pixels.shape[:2], {"gray": 0, "rgb": 2, "palette": 3}[case.photometric]
    head = struct.pack(">IIBBBBB", width, height, int(case.depth), color | 4 * (alpha is not None), 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    if case.frame != "first":
        out += chunk(b"acTL", struct.pack(">II", 2, 0))
    if palette is not None:
        out += chunk(b"PLTE", palette[:, :3].astype(np.uint8).tobytes())
        out += chunk(b"tRNS", palette[:, 3].astype(np.uint8).tobytes()) if case.alpha != "none" else b""
    if case.orientation != 1:
        out += chunk(b"eXIf", struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 274, 3, 1, case.orientation, 0, 0))
    out += control(0) if case.frame == "animated" else b""
    out += chunk(b"IDAT", packed(False))
    for number in {"first": (), "default": (0, 2), "animated": (1,)}[case.frame]:
        out += control(number) + chunk(b"fdAT", struct.pack(">I", number + 1) + packed(True))
    return out + chunk(b"IEND", b"")


def write_bmp(case: Case) -> bytes:
    pixels, alpha, palette = samples(case)
    rows, bits = rows_of(stored(case, "<"), case), int(case.depth)
    if case.photometric == "rgb":
        bits = 24 if alpha is None else 32
        values = stored(case, "<")
        rows = [row.tobytes() for row in values[..., [2, 1, 0] if alpha is None else [2, 1, 0, 3]]]
    elif palette is None:
        step = 255 if case.depth == "1" else 1
        palette = np.repeat(np.arange(0, 256, step)[:, None], 3, axis=1)
    colors = b"" if palette is None else np.pad(palette[:, 2::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    data = b"".join(row + bytes(-len(row) % 4) for row in reversed(rows))
    header = 124 if alpha is not None else 40
    size = struct.pack(
        "<iiHHIIiiII", *pixels.shape[1::-1], 1, bits, 3 * (header > 40), len(data), 0, 0, len(colors) // 4, 0
    )
    masks = struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs").ljust(84, b"\0") if header > 40 else b""
    start = 14 + header + len(colors)
    return b"BM" + struct.pack("<IHHII", start + len(data), 0, 0, start, header) + size + masks + colors + data


def tiff_page(case: Case, other: bool) -> tuple[dict, list[bytes]]:
    """The tags, as number: (type, values), and the strips of one page."""
    _, alpha, palette = samples(case)
    values = stored(case, case.order, other)
    height, width, count = values.shape
    planes = np.moveaxis(values, 2, 0)[..., None] if case.layout == "planar" else values[None]
    strips = [b"".join(rows_of(plane, case)) for plane in planes]
    color = {"white is zero": 0, "gray": 1, "rgb": 2, "palette": 3, "cmyk": 5}[case.photometric]
    bits = {"float": 32}.get(case.depth) or int(case.depth)
    tags = {
        254: ("I", [int(other and case.frame == "primary")]),
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * count),
        259: ("H", [8 if case.packed else 1]),
        262: ("H", [color]),
        274: ("H", [case.orientation]),
        277: ("H", [count]),
        278: ("I", [height]),
        284: ("H", [2 if case.layout == "planar" else 1]),
        339: ("H", [3 if case.depth == "float" else 1] * count),
    }
    if alpha is not None:
        tags[338] = ("H", [2])
    if palette is not None:
        table = np.zeros((3, 2**bits), int)
        table[:, : len(palette)] = palette[:, :3].T * 257
        tags[320] = ("H", table.ravel().tolist())
    return tags, [zlib.compress(strip) for strip in strips] if case.packed else strips


def tiff_file(pages: list[tuple[dict, list[bytes]]], order: str = "<", hidden: tuple | None = None) -> bytes:
    """A TIFF of pages as (tags, strips); only the SubIFDs tag of the first leads to the page `hidden`."""
    out, link = bytearray(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 0)), 4

    def put(data: bytes) -> int:
        out.extend(data + bytes(len(data) % 2))
        return len(out) - len(data) - len(data) % 2

    def directory(tags, strips) -> tuple[int, int]:
        tags = tags | {273: ("I", [put(strip) for strip in strips]), 279: ("I", [len(strip) for strip in strips])}
        entries = b""
        for tag, (kind, values) in sorted(tags.items()):
            data = struct.pack(f"{order}{len(values)}{kind}", *values)
            where = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{order}I", put(data))
            entries += struct.pack(f"{order}HHI", tag, {"B": 1, "H": 3, "I": 4}[kind], len(values)) + where
        return put(struct.pack(f"{order}H", len(tags)) + entries + bytes(4)), 2 + len(entries)

    if hidden:
        pages = [(pages[0][0] | {330: ("I", [directory(*hidden)[0]])}, pages[0][1]), *pages[1:]]
    for tags, strips in pages:
        place, length = directory(tags, strips)
        struct.pack_into(f"{order}I", out, link, place)
        link = place + length
    return bytes(out)


def write_tiff(case: Case) -> bytes:
    pages = [tiff_page(case, False)]
    if case.frame != "first":
        pages = [*pages, tiff_page(case, True)][:: -1 if case.frame == "primary" else 1]
    return tiff_file(pages, case.order)


WRITE = {
    "JPEG": write_jpeg,
    "PNG": write_png,
    "TIFF": write_tiff,
    "BMP": write_bmp,
    "WEBP": write_webp,
    "GIF": write_gif,
    "HEIC": write_heic,
    "AVIF": write_avif,
}
