"""Pixels as a reference viewer shows them: every pair of what a format can hold, from its orientation to its layout.

Each file is written here (by Pillow, by pillow_heif, or byte by byte), so the expected pixels come from how it was
made. Every pair of values of two axes that a format allows is in the table at least once. What we do not read stands
in REFUSED with the words that its refusal must contain.
"""

import io
import itertools
import struct
import zlib
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from driqa_jax.data.decode import ORIENTATION, decode
from driqa_jax.data.errors import UnreadableImage

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
pillow_heif.register_heif_opener()


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


AXES = Case(
    format=("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "HEIC", "AVIF"),
    orientation=tuple(range(1, 9)),
    # first: the only picture; default: an APNG's still, no frame of its animation; animated: the first of several
    # frames or pages; primary: the second picture, marked as the primary one (HEIC) or behind a preview (TIFF).
    frame=("first", "default", "animated", "primary"),
    alpha=("none", "straight", "zero"),
    depth=("1", "8", "16", "float"),
    photometric=("rgb", "grey", "palette", "cmyk", "white is zero"),
    layout=("chunky", "planar"),
    packed=(False, True),
    order=("<", ">"),
    source=("bytes", "path", "image"),
)
# What a format can hold; an axis that is not named has the first value alone.
HOLDS = {
    "JPEG": {"orientation": AXES.orientation, "frame": ("first", "animated"), "photometric": ("rgb", "grey", "cmyk")},
    "PNG": {
        "orientation": AXES.orientation,
        "frame": ("first", "default", "animated"),
        "alpha": AXES.alpha,
        "depth": ("1", "8", "16"),
        "photometric": ("rgb", "grey", "palette"),
    },
    "TIFF": {
        "orientation": AXES.orientation,
        "frame": ("first", "animated", "primary"),
        "alpha": AXES.alpha,
        "depth": AXES.depth,
        "photometric": AXES.photometric,
        "layout": AXES.layout,
        "packed": AXES.packed,
        "order": AXES.order,
    },
    "BMP": {"alpha": AXES.alpha, "depth": ("1", "8"), "photometric": ("rgb", "grey", "palette")},
    "WEBP": {"orientation": AXES.orientation, "frame": ("first", "animated"), "alpha": AXES.alpha},
    "GIF": {
        "frame": ("first", "animated"),
        "alpha": AXES.alpha,
        "depth": ("1", "8"),
        "photometric": ("grey", "palette"),
    },
    "HEIC": {
        "orientation": AXES.orientation,
        "frame": ("first", "primary"),
        "alpha": AXES.alpha,
        "photometric": ("rgb", "grey"),
    },
    "AVIF": {
        "orientation": AXES.orientation,
        "frame": ("first", "animated"),
        "alpha": AXES.alpha,
        "photometric": ("rgb", "grey"),
    },
}
USUAL = {"orientation": (1,), "frame": ("first",), "alpha": ("none",), "depth": ("8",), "photometric": ("rgb",)} | {
    "layout": ("chunky",),
    "packed": (False,),
    "order": ("<",),
    "source": AXES.source,
}
# The largest difference of a sample. Lossless formats: rounding of alpha, of CMYK and of 16 bits.
TOLERANCE = {"JPEG": 6, "HEIC": 6, "AVIF": 6}
LOSSLESS = 1
COLOURS = {"rgb": 3, "grey": 1, "palette": 1, "cmyk": 4, "white is zero": 1}
# Combinations that are refused, each with the words of its reason. All are TIFFs.
REFUSED = (
    (lambda c: c.depth == "float" and (c.photometric == "rgb" or c.alpha != "none"), "float samples"),
    (lambda c: c.depth == "float" and c.packed and c.order == ">", "float samples"),
    (lambda c: c.depth == "16" and c.layout == "planar" and not c.packed, "separate planes"),
    (lambda c: c.photometric == "grey" and c.layout == "planar", "separate planes"),
    (lambda c: c.depth == "16" and c.photometric == "grey" and c.alpha != "none", "16-bit"),
    (lambda c: c.depth == "16" and c.photometric == "white is zero" and c.order == ">", "16-bit"),
)


def refusal(case: Case) -> str | None:
    return next((words for holds, words in REFUSED if case.format == "TIFF" and holds(case)), None)


def possible(case: Case) -> bool:
    """Whether the format, which holds each value, holds them together."""
    deep = {"1": ("grey", "palette", "white is zero"), "16": ("rgb", "grey", "cmyk", "white is zero")}
    deep["float"] = ("rgb", "grey", "white is zero")
    if case.photometric not in deep.get(case.depth, AXES.photometric):
        return False
    if case.layout == "planar" and COLOURS[case.photometric] + (case.alpha != "none") == 1:
        return False
    if case.format == "AVIF" and case.frame == "animated" and case.orientation != 1:
        return False  # Pillow 13.0 crashes while it writes one
    if case.alpha == "none":
        return True
    if case.photometric == "palette":
        return case.format in ("PNG", "GIF")
    if case.format == "GIF":
        return True
    if case.depth == "1" or case.photometric in ("cmyk", "white is zero"):
        return False
    return case.format != "BMP" or case.photometric == "rgb"


def every_case() -> list[Case]:
    cases = []
    for format, holds in HOLDS.items():
        values = [(format,), *((USUAL | holds)[axis] for axis in Case._fields[1:])]
        cases += [case for case in itertools.starmap(Case, itertools.product(*values)) if possible(case)]
    return cases


def pairs(cases: list[Case]) -> set:
    """(axis, axis, value, value) of all pairs of values in the cases."""
    columns = list(zip(*cases, strict=True))
    axes = itertools.combinations(range(len(columns)), 2)
    return {(a, b, *values) for a, b in axes for values in set(zip(columns[a], columns[b], strict=True))}


def pairwise(cases: list[Case]) -> list[Case]:
    """A few of the cases that have every pair of values which any of them has; greedy, the same each time."""
    codes = np.array([[AXES[axis].index(value) for axis, value in enumerate(case)] for case in cases])
    missing = {}
    for a, b in itertools.combinations(range(codes.shape[1]), 2):
        missing[a, b] = np.zeros((codes[:, a].max() + 1, codes[:, b].max() + 1), bool)
        missing[a, b][codes[:, a], codes[:, b]] = True
    chosen = []
    while True:
        gain = sum(table[codes[:, a], codes[:, b]].astype(int) for (a, b), table in missing.items())
        best = int(gain.argmax())
        if not gain[best]:
            return chosen
        chosen.append(cases[best])
        for (a, b), table in missing.items():
            table[codes[best, a], codes[best, b]] = False


CASES = every_case()
# Apart, so that no pair is hidden behind a refusal that another value causes.
READ = pairwise([case for case in CASES if not refusal(case)])
NOT_READ = pairwise([case for case in CASES if refusal(case)])

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
    blocks = random.choice(levels, (4, 6, COLOURS[case.photometric]))
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


# ------------------------------------------------------------------------------------------------------- the files
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
    """One colour may be transparent; "zero": it is the only one."""
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


def write_png(case: Case) -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def packed(other):
        return zlib.compress(b"".join(b"\0" + row for row in rows_of(stored(case, ">", other), case)))

    def control(number):
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))

    pixels, alpha, palette = samples(case)
    (height, width), colour = pixels.shape[:2], {"grey": 0, "rgb": 2, "palette": 3}[case.photometric]
    head = struct.pack(">IIBBBBB", width, height, int(case.depth), colour | 4 * (alpha is not None), 0, 0, 0)
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
    colours = b"" if palette is None else np.pad(palette[:, 2::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    data = b"".join(row + bytes(-len(row) % 4) for row in reversed(rows))
    header = 124 if alpha is not None else 40
    size = struct.pack(
        "<iiHHIIiiII", *pixels.shape[1::-1], 1, bits, 3 * (header > 40), len(data), 0, 0, len(colours) // 4, 0
    )
    masks = struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs").ljust(84, b"\0") if header > 40 else b""
    start = 14 + header + len(colours)
    return b"BM" + struct.pack("<IHHII", start + len(data), 0, 0, start, header) + size + masks + colours + data


def tiff_page(case: Case, other: bool) -> tuple[dict, list[bytes]]:
    """The tags, as number: (type, values), and the strips of one page."""
    _, alpha, palette = samples(case)
    values = stored(case, case.order, other)
    height, width, count = values.shape
    planes = np.moveaxis(values, 2, 0)[..., None] if case.layout == "planar" else values[None]
    strips = [b"".join(rows_of(plane, case)) for plane in planes]
    colour = {"white is zero": 0, "grey": 1, "rgb": 2, "palette": 3, "cmyk": 5}[case.photometric]
    bits = {"float": 32}.get(case.depth) or int(case.depth)
    tags = {
        254: ("I", [int(other and case.frame == "primary")]),
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * count),
        259: ("H", [8 if case.packed else 1]),
        262: ("H", [colour]),
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


def write_tiff(case: Case) -> bytes:
    order, pages = case.order, [tiff_page(case, False)]
    if case.frame != "first":
        pages = [*pages, tiff_page(case, True)][:: -1 if case.frame == "primary" else 1]
    out, link = bytearray(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 0)), 4

    def put(data: bytes) -> int:
        out.extend(data + bytes(len(data) % 2))
        return len(out) - len(data) - len(data) % 2

    for tags, strips in pages:
        places = [put(strip) for strip in strips]
        tags = tags | {273: ("I", places), 279: ("I", [len(strip) for strip in strips])}
        entries = b""
        for tag, (kind, values) in sorted(tags.items()):
            data = struct.pack(f"{order}{len(values)}{kind}", *values)
            where = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{order}I", put(data))
            entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + where
        place = put(struct.pack(f"{order}H", len(tags)) + entries + bytes(4))
        struct.pack_into(f"{order}I", out, link, place)
        link = place + 2 + len(entries)
    return bytes(out)


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


def source_of(case: Case, folder):
    data = WRITE[case.format](case)
    if case.source == "path":
        path = folder / "picture"
        path.write_bytes(data)
        return path
    if case.source == "bytes":
        return data
    image = Image.open(io.BytesIO(data))
    # An image is read where it stands; Pillow opens a TIFF at its first page, be it a preview.
    image.seek(1 if case.frame == "primary" else 0)
    return image


def named(case: Case) -> str:
    return "-".join(str(value).replace(" ", "_") for value in case)


# ------------------------------------------------------------------------------------------------------- the table
@pytest.mark.parametrize("case", READ, ids=named)
def test_pixels(case, tmp_path):
    source = source_of(case, tmp_path)
    stood = source.tell() if case.source == "image" else None
    found, right = decode(source).astype(float), expected(case)
    assert found.shape == right.shape
    assert np.abs(found - right).max() <= TOLERANCE.get(case.format, LOSSLESS)
    assert stood is None or source.tell() == stood


@pytest.mark.parametrize("case", [case for case in NOT_READ if case.source != "image"], ids=named)
def test_refusals_name_the_cause(case, tmp_path):
    with pytest.raises(UnreadableImage, match=f"TIFF.*{refusal(case)}"):
        decode(source_of(case, tmp_path))


def test_every_valid_pair_is_in_the_table():
    everything, read = pairs(CASES), pairs(READ)
    print(
        f"\n{len(READ)} pictures read and {len(NOT_READ)} refused of {len(CASES)} combinations, {len(everything)} pairs"
    )
    assert everything == read | pairs(NOT_READ)
    assert read == pairs([case for case in CASES if not refusal(case)])
    assert all(set(values) == set(column) for values, column in zip(AXES, zip(*READ, strict=True), strict=True))
