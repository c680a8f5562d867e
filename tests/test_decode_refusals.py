"""A refusal names the true format, the true cause and what to do; no preview stands in for the picture."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from picture_files import Case, stored, tiff_file, tiff_page
from PIL import Image
from test_decode import COLORS, encoded

from driqa_jax.data import raw, signatures, tiff
from driqa_jax.data.decode import decode, stored_size
from driqa_jax.errors import UnreadableImage

CASE = Case("TIFF", 1, "first", "none", "8", "rgb", "chunky", False, "<", "bytes")


def noise(kind, **options):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return encoded(Image.fromarray(picture), kind, **options)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"this is a letter, not a picture\n" * 50, "^not a picture in a known format$"),
        (b"BMW is a car maker. " * 50, "^not a picture in a known format$"),
        (b"P5 is a persona. " * 50, "^not a picture in a known format$"),
        (bytes(5000), "^not a picture in a known format$"),
        (noise("JPEG")[:1500], "truncated JPEG file"),
        (noise("PNG")[:3000], "truncated PNG file"),
        (noise("WEBP")[:1000], "truncated WebP file"),
        (noise("TIFF")[:3000], "truncated TIFF file"),
        (noise("TIFF", compression="tiff_lzw")[:3000], "TIFF file"),
        (noise("GIF")[:1000], "truncated GIF file"),
        (noise("BMP")[:1000], "truncated BMP file"),
        (noise("AVIF")[:1000], "truncated AVIF file"),
        (noise("JPEG2000")[:100], "truncated JPEG 2000 file"),
        (noise("PPM")[:1000], "truncated PNM file"),
        (noise("ICO")[:30], "truncated ICO file"),
        (noise("PNG")[:20], "truncated PNG file"),
        (b"\x89PNG\r\n\x1a\n", "truncated PNG file"),
        (b"\xff\xd8\xff", "truncated JPEG file"),
        (b"II*\0", "truncated TIFF file"),
        (noise("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "JPEG file of a form.*12-bit.*convert"),
        (noise("BMP")[:30] + b"\4" + noise("BMP")[31:], "BMP file of a form.*compression.*convert"),
    ],
    ids=lambda value: value.strip("^$") if isinstance(value, str) else str(len(value)),
)
def test_what_is_broken_is_named_with_its_reason(tmp_path, data, reason):
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage) as caught:
        decode(path)
    assert caught.value.path == str(path) and str(caught.value) == f"{path}: {caught.value.reason}"
    assert re.search(reason, caught.value.reason)
    with pytest.raises(UnreadableImage, match="^row 7: "):
        decode(data, name="row 7")


KNOWN = [
    (b"II*\0\x10\0\0\0CR\2\0", "a raw photo.*CR2.*develop"),
    (b"II\x1a\0\0\0HEAPCCDR", "a raw photo.*CRW.*develop"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a raw photo.*CR3.*develop"),
    (b"FUJIFILMCCD-RAW 0201FF", "a raw photo.*RAF.*develop"),
    (b"IIRO\x08\0\0\0", "a raw photo.*ORF.*develop"),
    (b"IIU\0\x08\0\0\0", "a raw photo.*RW2.*develop"),
    (b"FOVb\0\0\2\0", "a raw photo.*X3F.*develop"),
    (b"\0MRM\0\0\0\0", "a raw photo.*MRW.*develop"),
    (b"\xff\x0a\xfa\x7f", "JPEG XL.*convert"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL.*convert"),
    (b"\x76\x2f\x31\x01\2\0\0\0", "OpenEXR.*convert"),
    (b"#?RADIANCE\n", "Radiance.*convert"),
    (b"qoif\0\0\0\1", "QOI.*convert"),
    (bytes(128) + b"DICM", "DICOM.*convert"),
    (b"SIMPLE  =                    T", "FITS.*convert"),
    (b"\0\0\2\0" + bytes(14), "TGA.*convert"),
    (b"PF\n1 1\n-1.0\n" + bytes(12), "PFM.*float.*convert"),
    (b"8BPS\0\1", "PSD.*export"),
    (b"%PDF-1.7\n", "PDF.*export"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript.*export"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG.*export"),
    (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by hand -->\n<svg/>', "SVG.*export"),
    (b"<!DOCTYPE html>\n<html>", "web page.*download"),
    (b"  <html><body>404", "web page.*download"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS.*git lfs pull"),
    (b"PK\3\4\x14\0", "ZIP"),
    (b"\0\x05\x16\7\0\2\0\0", "AppleDouble"),
    (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video.*extract"),
    (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "a video.*extract"),
    (b"\x1aE\xdf\xa3\1\0", "a video.*Matroska"),
    (b"RIFF\0\0\0\0AVI LIST", "a video.*AVI"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\2", "iOS"),
    (b"\0\0\0\x18ftypmif1\0\0\0\0mif1vvic", "HEIF picture of another codec"),
]


@pytest.mark.parametrize("start, reason", KNOWN, ids=lambda value: value if isinstance(value, str) else "")
def test_a_known_format_that_we_do_not_decode_is_named(start, reason):
    data = start + bytes(200)
    for action in (decode, stored_size):
        with pytest.raises(UnreadableImage, match=reason):
            action(data)
    assert signatures.decoded_format(start) in (None, "PNG", "TIFF")


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM", "ICO", "HEIF"]
)
def test_no_sound_picture_is_taken_for_something_else(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif", reason="the extra heif is not installed").register_heif_opener()
    head = noise(kind)[: signatures.HEAD]
    assert signatures.refusal(head) is None and signatures.decoded_format(head) is not None


# ------------------------------------------------------------------------------------------------------ raw photos
def page(pixels: np.ndarray, photometric: int, **tags):
    """A page for `tiff_file`; tags: t254=("I", [1])."""
    height, width, count = pixels.shape
    own = {256: ("I", [width]), 257: ("I", [height]), 258: ("H", [8 * pixels.itemsize] * count), 259: ("H", [1])}
    own |= {262: ("H", [photometric]), 277: ("H", [count]), 278: ("I", [height])}
    return own | {int(name[1:]): value for name, value in tags.items()}, [pixels.tobytes()]


PREVIEW = page(np.full((8, 8, 3), 99, np.uint8), 2, t254=("I", [1]), t271=("B", list(b"NIKON")))
MOSAIC = np.full((32, 32, 1), 900, "<u2")
RAW = {
    "DNG, mosaic behind SubIFDs": ([(PREVIEW[0] | {50706: ("B", [1, 4, 0, 0])}, PREVIEW[1])], page(MOSAIC, 32803)),
    "NEF, mosaic behind SubIFDs": ([PREVIEW], page(MOSAIC, 32803)),
    "linear DNG": ([PREVIEW], page(MOSAIC.repeat(3, axis=2), 34892)),
    "Nikon's compression": ([PREVIEW], page(MOSAIC, 1, t259=("H", [34713]))),
    "mosaic as second page": ([PREVIEW, page(MOSAIC, 32803)], None),
    "mosaic as first page": ([page(MOSAIC, 32803)], None),
    "DNGVersion alone": ([(PREVIEW[0] | {50706: ("B", [1, 4, 0, 0])}, PREVIEW[1])], None),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", RAW)
def test_a_raw_photo_is_refused_whoever_opened_it(name, order, tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "available", lambda: False)  # test_raw.py has what happens with the extra
    pages, hidden = RAW[name]
    data = tiff_file(pages, order, hidden)
    path = tmp_path / "photo.tif"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(UnreadableImage, match="a raw photo.*develop it first"):
            decode(source)
    if name == "mosaic as first page":
        return  # Pillow does not open it
    with Image.open(path) as image:
        with pytest.raises(UnreadableImage, match="a raw photo.*develop it first"):
            decode(image)
        assert image.tell() == 0 and image.size == (8, 8)


def test_a_preview_gives_way_to_the_picture():
    whole = page(np.full((32, 32, 3), 7, np.uint8), 2)
    assert (decode(tiff_file([PREVIEW, whole])) == 7).all()
    assert decode(tiff_file([PREVIEW, PREVIEW, whole])).shape == (32, 32, 3)
    assert (decode(tiff_file([whole, PREVIEW])) == 7).all()
    assert (decode(tiff_file([PREVIEW])) == 99).all()  # there is nothing else
    with pytest.raises(UnreadableImage, match="pages are previews.*SubIFD"):
        decode(tiff_file([PREVIEW], hidden=whole))


def test_damage_behind_the_first_page_does_not_cost_it():
    data = bytearray(tiff_file([page(np.full((4, 4, 3), 7, np.uint8), 2)]))
    for place in (len(data) + 1000, 3, 8):
        data[-4:] = struct.pack("<I", place)
        assert (decode(bytes(data)) == 7).all()


# ----------------------------------------------------------------------------------------------------- TIFF layouts
@pytest.mark.parametrize(
    "pixels, tags, words",
    [
        (np.zeros((4, 4, 3), "<f4"), {"t339": ("H", [3] * 3)}, "32-bit float samples, 3 a pixel"),
        (np.zeros((4, 4, 1), "<f2"), {"t339": ("H", [3])}, "16-bit float samples, 1 a pixel"),
        (np.zeros((4, 4, 1), "<f8"), {"t339": ("H", [3])}, "64-bit float samples, 1 a pixel"),
        (np.zeros((4, 4, 1), "<u4"), {}, "32-bit unsigned integer samples"),
        (np.zeros((4, 4, 1), "<i2"), {"t339": ("H", [2])}, "16-bit signed integer samples"),
        (np.zeros((4, 4, 1), "i1"), {"t339": ("H", [2])}, "8-bit signed integer samples"),
        (np.zeros((4, 4, 2), "<u2"), {}, "16-bit unsigned integer samples, 2 a pixel"),
        (np.zeros((4, 4, 1), np.uint8), {"t259": ("H", [50002])}, "compression 50002"),
        (np.zeros((4, 4, 3), np.uint8), {"t262": ("H", [9])}, "photometric interpretation 9"),
        (np.zeros((4, 4, 3), np.uint8), {"t262": ("H", [6])}, "subsampled YCbCr without compression"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_layout_that_is_not_read_is_named(pixels, tags, words):
    with pytest.raises(UnreadableImage, match=f"a TIFF of .*{words}.*convert it to 8 or 16 bits"):
        decode(tiff_file([page(pixels, {1: 1, 2: 1, 3: 2}[pixels.shape[2]], **tags)]))


def test_a_layout_that_pillow_misreads_is_refused_in_its_own_image_too():
    planes = CASE._replace(layout="planar", depth="16")
    image = Image.open(io.BytesIO(tiff_file([tiff_page(planes, False)])))
    with pytest.raises(UnreadableImage, match="TIFF of separate planes: 16-bit"):
        decode(image)


def test_float_samples_without_a_known_white():
    bright = page(np.full((4, 4, 1), 2, "<f4"), 1, t339=("H", [3]))
    with pytest.raises(UnreadableImage, match=r"TIFF.*float samples outside \[0, 1\].*convert"):
        decode(tiff_file([bright]))


def test_twelve_bits_are_scaled_by_their_own_white():
    """Two samples in three bytes, high bits first."""
    values = np.array([[0, 4095, 2048, 16]])
    data = bytes.fromhex("".join(f"{value:03x}" for value in values[0]))
    tags, _ = page(np.zeros((1, 4, 1), np.uint8), 1, t258=("H", [12]))
    for packed in (False, True):
        strip = zlib.compress(data) if packed else data
        found = decode(tiff_file([(tags | {259: ("H", [8 if packed else 1])}, [strip])]))
        np.testing.assert_array_equal(found[..., 0], np.rint(values * 255 / 4095))


def test_a_color_map_of_8_bit_values_is_read_as_such():
    indices, table = np.array([[[0], [1]]], np.uint8), np.zeros((3, 256), int)
    table[:, :2] = [[200, 10], [100, 20], [50, 30]]
    found = decode(tiff_file([page(indices, 3, t320=("H", table.ravel().tolist()))]))
    np.testing.assert_array_equal(found, [[[200, 100, 50], [10, 20, 30]]])


def test_tags_that_lead_in_a_circle_come_to_an_end():
    data = bytearray(tiff_file([page(stored(CASE, "<"), 2)]))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    assert tiff.page_to_read(io.BytesIO(data), "x") == 0
    np.testing.assert_array_equal(decode(bytes(data)), stored(CASE, "<"))


# ----------------------------------------------------------------------------------------------------------- frames
@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "AVIF"])
def test_an_image_is_read_at_its_frame_and_stays_there(kind):
    values = (200, 90, 20)
    frames = [Image.new("RGB", (32, 32), (value, value, value)) for value in values]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        for i in (0, 1, 2, 1, 0):
            image.seek(i)
            for _ in range(2):
                assert np.abs(decode(image).astype(int) - values[i]).max() <= 3
                assert image.tell() == i
    for source in (data, io.BytesIO(data)):
        assert np.abs(decode(source).astype(int) - values[0]).max() <= 3


def test_an_icon_whose_alpha_is_zero_everywhere_is_opaque():
    image = Image.fromarray(np.dstack([np.kron(COLORS, np.ones((8, 8, 1), np.uint8)), np.zeros((16, 24), np.uint8)]))
    data = encoded(image, "ICO", bitmap_format="bmp", sizes=[(24, 16)])
    np.testing.assert_array_equal(decode(data), np.asarray(image)[..., :3])
