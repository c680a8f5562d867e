"""Any picture file becomes what a person sees: known pixels in, known pixels out; what is broken is named."""

import io
import os
import pickle
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from driqa_jax.data.decode import decode, stored_size
from driqa_jax.data.srgb import ORIENTATION
from driqa_jax.errors import UnreadableImage, UserError

# Two rows, three columns, every pixel another color: a turn or a swap of channels cannot go unseen.
COLORS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [200, 100, 50], [255, 255, 255]]], np.uint8)


def encoded(image, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunks(width, height, depth, color, rows: bytes, *extra) -> bytes:
    """A PNG written by hand, for what Pillow cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = b"".join(chunk(kind, data) for kind, data in extra) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def test_gray():
    gray = np.array([[0, 128, 255]], np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(gray))), np.stack([gray] * 3, axis=-1))


def test_rgb_from_bytes_path_file_image_and_array(tmp_path):
    path = tmp_path / "colors.png"
    Image.fromarray(COLORS).save(path)
    with open(path, "rb") as file:
        sources = [path.read_bytes(), path, str(path), file, Image.open(path), COLORS]
        for source in sources:
            found = decode(source)
            assert found.dtype == np.uint8 and found.flags.writeable
            np.testing.assert_array_equal(found, COLORS)


def palette_image():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").copy()
    image = image.convert("P")
    image.putdata([0, 1, 2])
    image.putpalette([255, 0, 0, 0, 0, 255, 7, 8, 9])
    return image


def test_palette():
    found = decode(encoded(palette_image()))
    np.testing.assert_array_equal(found, [[[255, 0, 0], [0, 0, 255], [7, 8, 9]]])


@pytest.mark.parametrize(
    "transparency, blue", [(1, 255), (bytes([255, 51, 255]), 255)], ids=["one color", "alpha of each color"]
)
def test_palette_with_transparency_lies_over_white(transparency, blue):
    found = decode(encoded(palette_image(), transparency=transparency))
    left = 255 - (0 if transparency == 1 else 51)  # 51/255 of blue over white leaves 204 of the white
    np.testing.assert_array_equal(found, [[[255, 0, 0], [left, left, blue], [7, 8, 9]]])


def test_alpha_lies_over_white():
    rgba = np.array([[[0, 100, 200, 255], [0, 100, 200, 0], [0, 0, 255, 51]]], np.uint8)
    expected = [[[0, 100, 200], [255, 255, 255], [204, 204, 255]]]
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(rgba))), expected)
    np.testing.assert_array_equal(decode(rgba), expected)
    gray = np.array([[[0, 255], [0, 0], [0, 51]]], np.uint8)
    expected = np.repeat([[[0], [255], [204]]], 3, axis=2)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(gray, "LA"))), expected)


def test_the_transparent_color_of_an_rgb_png_is_white():
    found = decode(encoded(Image.fromarray(COLORS), transparency=(0, 255, 0)))
    expected = COLORS.copy()
    expected[0, 1] = 255
    np.testing.assert_array_equal(found, expected)


def test_cmyk_jpeg():
    flat = {(0, 0, 0, 0): 255, (0, 0, 0, 255): 0}
    for ink, value in flat.items():
        found = decode(encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95))
        assert found.shape == (16, 16, 3) and np.abs(found.astype(int) - value).max() <= 2
    cyan = decode(encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95))
    assert cyan[..., 0].max() <= 5 and cyan[..., 1:].min() >= 250


def test_16_bits_gray_are_scaled_not_clipped():
    values = np.array([[0, 257, 128 * 257, 65535, 250]], np.uint16)
    found = decode(encoded(Image.fromarray(values)))
    np.testing.assert_array_equal(found[..., 0], np.rint(values / 257))
    np.testing.assert_array_equal(decode(values)[..., 0], found[..., 0])


def test_16_bits_gray_with_a_transparent_value():
    row = b"\0" + np.array([0, 30000, 65535], ">u2").tobytes()
    found = decode(png_chunks(3, 1, 16, 0, row, (b"tRNS", struct.pack(">H", 30000))))
    np.testing.assert_array_equal(found[..., 0], [[0, 255, 255]])


@pytest.mark.parametrize("color, channels", [(2, 3), (6, 4)], ids=["RGB", "RGBA"])
def test_16_bits_color(color, channels):
    values = np.array([[0, 257 * 100, 65535, 65535], [257 * 30, 257 * 20, 257 * 10, 65535]], ">u2")
    row = b"\0" + values[:, :channels].tobytes()
    np.testing.assert_array_equal(decode(png_chunks(2, 1, 16, color, row)), [[[0, 100, 255], [30, 20, 10]]])


def test_one_bit():
    found = decode(encoded(Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1")))
    np.testing.assert_array_equal(found[..., 1], [[0, 255, 0]])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (8, 6), color) for color in ((255, 0, 0), (0, 0, 255), (0, 255, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(decode(data), np.broadcast_to([255, 0, 0], (6, 8, 3)))


def oriented(value, kind, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return encoded(Image.fromarray(COLORS), kind, exif=exif, **options)


# EXIF 2.3, tag 0x0112: where row 0 and column 0 of the stored picture are seen.
SEEN = {
    1: COLORS,
    2: COLORS[:, ::-1],
    3: COLORS[::-1, ::-1],
    4: COLORS[::-1],
    5: COLORS.transpose(1, 0, 2),
    6: COLORS.transpose(1, 0, 2)[:, ::-1],
    7: COLORS.transpose(1, 0, 2)[::-1, ::-1],
    8: COLORS.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("value", SEEN)
def test_exif_orientation_is_applied(value):
    data = oriented(value, "PNG")
    np.testing.assert_array_equal(decode(data), SEEN[value])
    assert stored_size(data) == SEEN[1].shape[:2]


def test_exif_orientation_of_a_jpeg():
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored lying, with its top on the right: seen upright, red is at the top
    stored = np.zeros((32, 64, 3), np.uint8)
    stored[:, :32] = [255, 0, 0]
    found = decode(encoded(Image.fromarray(stored), "JPEG", exif=exif, quality=95))
    assert found.shape == (64, 32, 3)
    assert found[4:28, :, 0].min() > 240 and found[36:, :, 0].max() < 10


def test_a_mangled_exif_block_does_not_cost_the_picture():
    data = encoded(Image.new("RGB", (8, 8), (9, 9, 9)), "JPEG", exif=b"Exif\0\0not a TIFF header at all")
    assert decode(data).shape == (8, 8, 3)


def test_a_misnamed_extension(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(Image.fromarray(COLORS)))
    np.testing.assert_array_equal(decode(path), COLORS)


def test_mpo_gives_its_first_picture():
    first, second = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 200))
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO" and image.n_frames == 2
    found = decode(data)
    assert found.shape == (16, 16, 3) and np.abs(found.astype(int) - [200, 0, 0]).max() <= 3


def swapped_profile() -> bytes:
    """An RGB profile whose red and blue primaries are sRGB's blue and red."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    place = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = place[b"rXYZ"], place[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    # Another name, of the same length: a profile that calls itself sRGB is taken at its word.
    return bytes(profile).replace("sRGB built-in".encode("utf-16-be"), "odd RGB space".encode("utf-16-be"))


def test_an_icc_profile_is_converted_to_srgb():
    found = decode(encoded(Image.fromarray(COLORS), icc_profile=swapped_profile()))
    assert np.abs(found.astype(int) - COLORS[..., ::-1]).max() <= 2


def test_an_icc_profile_under_alpha():
    rgba = np.dstack([COLORS, np.full((2, 3), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    found = decode(encoded(Image.fromarray(rgba), icc_profile=swapped_profile()))
    expected = COLORS[..., ::-1].copy()
    expected[0, 0] = 255
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("profile", [b"nonsense", b""])
def test_a_profile_that_cannot_be_read_is_ignored(profile):
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(COLORS), icc_profile=profile)), COLORS)


def test_a_profile_of_another_color_space_is_ignored():
    gray = Image.new("L", (2, 2), 77)
    assert (decode(encoded(gray, icc_profile=swapped_profile())) == 77).all()


def test_one_pixel():
    assert decode(encoded(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


def test_float_arrays_and_their_range():
    np.testing.assert_array_equal(decode(np.array([[0.0, 0.5, 1.0]]))[..., 2], [[0, 128, 255]])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        decode(np.array([[0.0, 255.0]]))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 3), np.uint8),
        np.zeros((2, 2), np.int64),
    ],
    ids=["two channels", "one axis", "no rows", "int64"],
)
def test_arrays_that_are_no_picture(array):
    with pytest.raises(ValueError, match="an image (is|has)"):
        decode(array, name="mine")


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(UnreadableImage, match=str(path)):
            decode(path)


def test_the_error_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(UnreadableImage("a.png", "why")))
    assert (error.path, error.reason, str(error)) == ("a.png", "why", "a.png: why")
    assert isinstance(error, UserError) and isinstance(error, ValueError)


def test_what_is_made_of_the_picture_comes_back_instead_of_the_array():
    for source in (encoded(Image.fromarray(COLORS)), COLORS, Image.fromarray(COLORS)):
        assert decode(source, use=lambda image: (image.mode, image.size)) == ("RGB", (3, 2))


def test_of_large_pictures_one_is_in_memory_at_a_time(monkeypatch):
    most, busy, data = 0, 0, encoded(Image.fromarray(COLORS))

    def use(image):
        nonlocal most, busy
        busy += 1
        most = max(most, busy)
        time.sleep(0.02)
        busy -= 1

    for large, expected in ((5, 1), (6, 3)):
        most = 0
        monkeypatch.setattr("driqa_jax.data.decode.LARGE", large)
        threads = [threading.Thread(target=decode, args=(data,), kwargs={"use": use}) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 1 if expected == 1 else most > 1


def test_avif():
    data = encoded(Image.new("RGB", (32, 48), (200, 30, 90)), "AVIF", quality=90)
    assert np.abs(decode(data).astype(int) - [200, 30, 90]).max() <= 4 and decode(data).shape == (48, 32, 3)


def test_heic_is_read_where_the_extra_is_there_and_its_turn_applied(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    stored = np.zeros((64, 128, 3), np.uint8)
    stored[:, :64] = [255, 0, 0]
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    pillow_heif.register_heif_opener()
    path = tmp_path / "a.heic"
    Image.fromarray(stored).save(path, quality=95, exif=exif.tobytes())
    found = decode(path)
    assert found.shape == (128, 64, 3)
    assert found[4:60, :, 0].min() > 240 and found[70:, :, 0].max() < 16
    with pytest.raises(UnreadableImage, match="damaged|truncated|known format"):
        decode(path.read_bytes()[:200])


def test_heic_without_the_extra_names_it(monkeypatch):
    monkeypatch.setattr(Image, "OPEN", {kind: how for kind, how in Image.OPEN.items() if kind != "HEIF"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for brands in (b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic"):
        with pytest.raises(UnreadableImage, match=r"driqa_jax\[heif\]"):
            decode(b"\0\0\0\x1cftyp" + brands + b"\0" * 99)


def test_a_named_pipe_is_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(encoded(Image.fromarray(COLORS))))
    writer.start()
    np.testing.assert_array_equal(decode(path), COLORS)
    writer.join()
