"""Only our own limits refuse a picture: `max_pixels` for its size, and no strictness about what is not its pixels."""

import io
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from picture_files import chunk
from PIL import Image, ImageCms
from test_decode import COLORS, encoded, png_chunks, swapped_profile

from driqa_jax.data.decode import decode
from driqa_jax.errors import UnreadableImage

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM", "ICO")
PICTURE = Image.fromarray(np.kron(COLORS, np.ones((16, 16, 1), np.uint8)))


def png(*extra: bytes, color=2, rows=None, palette=b"") -> bytes:
    """COLORS as a PNG (or `rows` of another color type, 3x2), with chunks before its pixels."""
    rows = b"".join(b"\0" + row.tobytes() for row in COLORS) if rows is None else rows
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, color, 0, 0, 0)) + palette
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + end


# ---------------------------------------------------------------------------------------------------------- size
@pytest.mark.parametrize("kind", [*FORMATS, "TIFF, packed", "animated GIF"])
def test_pillows_limit_neither_refuses_nor_warns_nor_stays_lifted(kind, monkeypatch):
    options = {"TIFF, packed": {"compression": "tiff_adobe_deflate"}, "ICO": {"sizes": [(32, 32)]}}.get(kind, {})
    if kind == "animated GIF":
        options = {"save_all": True, "append_images": [PICTURE.rotate(180)]}
    data = encoded(PICTURE, kind.split(",")[0].split(" ")[-1], **options)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).shape[2] == 3
    assert Image.MAX_IMAGE_PIXELS == 2


@pytest.mark.parametrize("kind", FORMATS)
def test_max_pixels_is_the_limit_of_every_format(kind):
    data = encoded(PICTURE, kind)
    height, width = decode(data).shape[:2]
    assert decode(data, max_pixels=height * width).shape[:2] == (height, width)
    with pytest.raises(UnreadableImage, match=f"{width}x{height} is .*--max-pixels {height * width}"):
        decode(data, max_pixels=height * width - 1)


def test_too_many_pixels_are_refused_by_name_before_they_are_decoded():
    huge = png_chunks(40000, 30000, 8, 2, b"")
    with pytest.raises(UnreadableImage, match=r"^huge: 40000x30000 is 1200\.0 megapixels.*--max-pixels 1200000000"):
        decode(huge, name="huge")
    with pytest.raises(UnreadableImage, match="limit of 5e-06"):
        decode(COLORS, max_pixels=5)
    assert decode(COLORS, max_pixels=6).shape == (2, 3, 3)


def test_a_larger_picture_inside_an_icon_is_refused_too():
    inside = png_chunks(9000, 9000, 1, 0, b"")
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, len(inside), 22) + inside
    with pytest.raises(UnreadableImage, match="inside the ICO file.*--max-pixels"):
        decode(icon, max_pixels=1e6)


def test_pillows_remarks_do_not_reach_stderr():
    """In a process of its own: pytest replaces the warning filters."""
    script = """
import io
from PIL import Image
from driqa_jax.data.decode import decode
file = io.BytesIO()
Image.new("L", (64, 64)).save(file, "TIFF", description="x" * 99)
data = bytearray(file.getvalue())
place = data.find(bytes([14, 1, 2, 0]))  # the tag of the description; Pillow warns of data that it cannot reach
data[place + 8 : place + 12] = bytes([255, 255, 255, 127])
try:
    decode(bytes(data))
except ValueError as error:
    print("refused", error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0 and run.stderr == "", run.stderr


# ------------------------------------------------------------------------------------- what stands beside the pixels
TEXT = b'{"nodes": [1, 2, 3]},' * 150_000  # 3 MB


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(TEXT)),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(TEXT)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TEXT),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(TEXT)),
        chunk(b"tEXt", b"Comment\0" + bytes(TEXT)),
        b"".join(chunk(b"zTXt", b"key%d\0\0" % i + zlib.compress(bytes(2**20 - 1))) for i in range(80)),
        chunk(b"iCCP", b"monitor\0\0" + zlib.compress(bytes(20_000_000))),
        chunk(b"zTXt", b"Comment\0\7damaged"),
        chunk(b"iCCP", b"monitor\0\7damaged"),
        chunk(b"gAMA", b"\0"),
        chunk(b"cHRM", b"\0"),
        chunk(b"pHYs", b"\0"),
        chunk(b"sRGB", b""),
        chunk(b"tRNS", b"\0"),
        chunk(b"acTL", b"\0"),
        chunk(b"fcTL", bytes(26)) + chunk(b"fdAT", bytes(9)),
        *(chunk(kind, bytes(8), wrong=1) for kind in (b"gAMA", b"tEXt", b"zTXt", b"iCCP", b"tRNS", b"eXIf", b"acTL")),
        *(chunk(kind, bytes(26), wrong=1) for kind in (b"fcTL", b"fdAT", b"prVt", b"tIME")),
    ],
    ids=lambda data: f"{data[4:8].decode()}-{len(data)}",
)
def test_no_ancillary_chunk_costs_the_picture(extra):
    np.testing.assert_array_equal(decode(png(extra)), COLORS)


def test_packed_metadata_does_not_grow_in_memory():
    bomb = zlib.compress(bytes(300_000_000), 9)
    texts = (b"zTXt", b"Raw profile type exif\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"), (b"iCCP", b"name\0\0")
    data = png(*(chunk(kind, start + bomb) for kind, start in texts))
    tracemalloc.start()
    np.testing.assert_array_equal(decode(data), COLORS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_a_profile_of_three_megabytes_is_applied():
    profile = swapped_profile() + bytes(3_000_000)
    profile = struct.pack(">I", len(profile)) + profile[4:]
    found = decode(png(chunk(b"iCCP", b"monitor\0\0" + zlib.compress(profile))))
    assert np.abs(found.astype(int) - COLORS[..., ::-1]).max() <= 2


def test_an_orientation_written_as_text_is_kept():
    """As ImageMagick (a packed hexadecimal text) and as XMP."""
    exif = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 274, 3, 1, 3, 0, 0)
    text = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="3"/>'
    for extra in (
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
    ):
        np.testing.assert_array_equal(decode(png(extra)), COLORS[::-1, ::-1])


def test_a_wrong_checksum_of_what_the_pixels_need_is_damage():
    broken = bytearray(png())
    broken[29] ^= 1
    with pytest.raises(UnreadableImage, match="damaged or truncated PNG file.*IHDR"):
        decode(bytes(broken))
    palette = chunk(b"PLTE", bytes(range(18)), wrong=1)
    with pytest.raises(UnreadableImage, match="damaged or truncated PNG file.*PLTE"):
        decode(png(color=3, rows=b"\0\0\1\2\0\3\4\5", palette=palette))


@pytest.mark.parametrize(
    "bits, row, hidden, right", [(2, b"\x1b", 1, (0, 255, 170, 255)), (4, b"\x03\x71", 3, (0, 255, 119, 17))]
)
def test_a_transparent_value_of_a_gray_png_of_few_bits(bits, row, hidden, right):
    found = decode(png_chunks(4, 1, bits, 0, b"\0" + row, (b"tRNS", struct.pack(">H", hidden))))
    np.testing.assert_array_equal(found[0, :, 0], right)


def test_a_transparent_color_of_a_16_bit_png():
    row = b"\0" + np.array([1000, 2000, 3000, 40000, 50000, 60000], ">u2").tobytes()
    found = decode(png_chunks(2, 1, 16, 2, row, (b"tRNS", struct.pack(">HHH", 1000, 2000, 3000))))
    assert np.abs(found.astype(int) - [[[255] * 3, [156, 195, 233]]]).max() <= 1


# -------------------------------------------------------------------------------------------------------- profiles
def without(profile: bytes, tag: bytes) -> bytes:
    return profile.replace(tag, b"zTRC")


def gray_profile() -> bytes:
    """A gray profile of gamma 1: what is stored as 128 is seen as about 188."""
    white = struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1.0, 0.8249)))
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"gray\0" + bytes(79),
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">I", 0),
    }
    body, table, start = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI", start + len(body), b"lcms", 0x02400000) + b"mntrGRAYXYZ "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_profile_without_a_transform_is_passed_over(kind):
    gray = Image.new("L", (16, 16), 128)
    color = Image.new("RGB", (16, 16), (200, 30, 90))
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    for image, profile, tag in ((color, swapped_profile(), b"rTRC"), (gray, gray_profile(), b"kTRC")):
        if kind == "WEBP" and image is gray:
            continue  # it holds no gray
        plain = decode(encoded(image, kind, **options))
        assert not np.array_equal(decode(encoded(image, kind, icc_profile=profile, **options)), plain)
        spoiled = encoded(image, kind, icc_profile=without(profile, tag), **options)
        np.testing.assert_array_equal(decode(spoiled), plain)


def test_a_profile_with_any_damage_costs_no_picture():
    whole, random = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), np.random.default_rng(0)
    whole = whole.replace("sRGB built-in".encode("utf-16-be"), "odd RGB space".encode("utf-16-be"))
    for _ in range(60):
        profile = bytearray(whole)
        for place in random.integers(len(profile), size=6):
            profile[place] ^= 1 << random.integers(8)
        assert decode(encoded(PICTURE, icc_profile=bytes(profile))).shape == (32, 48, 3)


def test_the_file_may_be_any_open_file(tmp_path):
    """A PNG whose chunks are left out, and a TIFF that libtiff reads, through a file, a path and bytes."""
    for data in (png(chunk(b"tIME", bytes(7), wrong=1)), encoded(PICTURE, "TIFF", compression="tiff_lzw")):
        path = tmp_path / "picture"
        path.write_bytes(data)
        with open(path, "rb") as file:
            found = decode(file)
        for source in (path, data, io.BytesIO(data)):
            np.testing.assert_array_equal(decode(source), found)
