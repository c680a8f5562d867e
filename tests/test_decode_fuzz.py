"""Whatever the bytes, the decoder says UnreadableImage or gives a picture: no other error, no hang, no other file."""

import builtins
import io
import os
import time

import numpy as np
import pytest
from PIL import Image, features

from driqa_jax.data.decode import decode
from driqa_jax.errors import UnreadableImage

SECONDS = 20  # for one broken picture of 48x64, on a machine that has other work
KINDS = {
    "JPEG": {"quality": 80},
    "PNG": {},
    "WEBP": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "PPM": {},
    "JPEG2000": {},
    "ICO": {},
    "AVIF": {},
}
CHECKED_BY = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif", "TIFF": "libtiff"}


def seeds():
    """One small picture in each format that this Pillow writes, an animation, and two with profile and EXIF."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:64]
    smooth = np.stack([x * 4, y * 5, x + y], axis=-1)
    image = Image.fromarray((smooth + rng.integers(0, 9, smooth.shape)).astype(np.uint8))
    found = {}
    for kind, options in KINDS.items():
        if kind not in CHECKED_BY or features.check(CHECKED_BY[kind]):
            found[kind] = saved(image, kind, **options)
    exif = Image.Exif()
    exif[0x0112] = 6
    found["EXIF"] = saved(image, "JPEG", exif=exif, icc_profile=bytes(range(256)) * 2)
    found["alpha"] = saved(image.convert("RGBA"), "PNG", exif=exif)
    found["animation"] = saved(image, "GIF", save_all=True, append_images=[image.rotate(90)], duration=9)
    found["HEIF"] = b"\0\0\0\x18ftyp" + b"heic" + found["JPEG"]
    return found


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def broken(data, rng):
    """The bytes with some damage: cut, flipped, overwritten, a piece repeated, another length in a field."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        how, place = rng.integers(6), int(rng.integers(max(len(data), 1)))
        if not data:
            break
        if how == 0:
            del data[place:]
        elif how == 1:
            for _ in range(int(rng.integers(1, 20))):
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        elif how == 2:
            # Most of what a decoder believes stands in the first bytes.
            place = place % 64 if len(data) > 64 else place
            data[place : place + 4] = rng.integers(0, 256, 4).astype(np.uint8).tobytes()
        elif how == 3:
            data[place:place] = data[place : place + 40] * int(rng.integers(1, 5))
        elif how == 4:
            data[place : place + 4] = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0")[int(rng.integers(3))]
        else:
            data[place : place + 30] = rng.integers(0, 256, 30).astype(np.uint8).tobytes()
    return bytes(data)


def try_to_decode(data):
    """True where it is a picture, False where it is refused; anything else is an error of the test."""
    began = time.monotonic()
    try:
        picture = decode(data, max_pixels=4e6, name="fuzz")
    except UnreadableImage as error:
        assert error.reason
        assert time.monotonic() - began < SECONDS
        return False
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert time.monotonic() - began < SECONDS
    return True


def fuzz(first, count):
    rng, outcomes = np.random.default_rng(first), []
    whole = list(seeds().values())
    for i in range(count):
        data = broken(whole[i % len(whole)], rng) if i % 10 else rng.bytes(int(rng.integers(1, 3000)))
        outcomes.append(try_to_decode(data))
    return outcomes


@pytest.fixture
def no_file_is_opened(monkeypatch):
    opened = []

    def refuse(path, *unused, **also):
        opened.append(path)
        raise AssertionError(f"{path} was opened")

    yield lambda: (monkeypatch.setattr(builtins, "open", refuse), monkeypatch.setattr(os, "open", refuse))
    monkeypatch.undo()
    assert opened == []


def test_the_seeds_are_pictures():
    for name, data in seeds().items():
        assert try_to_decode(data) == (name != "HEIF")


@pytest.mark.filterwarnings("ignore")
def test_broken_bytes_are_refused_or_read(no_file_is_opened):
    seeds()
    no_file_is_opened()
    outcomes = fuzz(first=0, count=400)
    assert 40 < sum(outcomes) < 360  # the damage neither spares nor ruins everything


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", range(1, 9))
def test_thousands_of_broken_bytes(first):
    fuzz(first, count=2500)
