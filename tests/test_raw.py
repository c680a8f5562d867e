"""Raw photos: the large preview or the developed sensor data, and what is said without the extra."""

import io
import json
import pickle

import numpy as np
import pytest
from fake_model import fake_scorer
from picture_files import tiff_file
from PIL import Image
from test_cli import driqa
from test_decode_refusals import page

from driqa_jax.data import raw
from driqa_jax.data.decode import decode, stored_size
from driqa_jax.data.signatures import RawPhoto
from driqa_jax.errors import UnreadableImage
from driqa_jax.reports.inputs import list_pictures

needs_rawpy = pytest.mark.skipif(not raw.available(), reason="the extra raw is not installed")
SIDES = 200, 300


def dng(preview=None, orientation=1, order="<"):
    """A DNG of a smooth mosaic, RGGB, 12 bits, with a JPEG preview of that (width, height): white left, black right."""
    tags = {271: ("B", list(b"Test\0")), 272: ("B", list(b"Camera\0")), 274: ("H", [orientation])}
    tags |= {50706: ("B", [1, 4, 0, 0]), 50708: ("B", list(b"Test Camera\0"))}
    y, _ = np.mgrid[0 : SIDES[0], 0 : SIDES[1]]
    mosaic = (500 + 3000 * y / SIDES[0]).astype(f"{order}u2")[..., None]
    cfa = {"t33421": ("H", [2, 2]), "t33422": ("B", [0, 1, 1, 2]), "t50714": ("H", [64]), "t50717": ("H", [4095])}
    if preview is None:
        main, strips = page(mosaic, 32803, **cfa)
        return tiff_file([(tags | main, strips)], order)
    width, height = preview
    file = io.BytesIO()
    stripes = np.where(np.arange(width) < width // 2, 255, 0).astype(np.uint8)
    Image.fromarray(np.broadcast_to(stripes[None, :, None], (height, width, 3)).copy()).save(file, "JPEG")
    small = {254: ("I", [1]), 256: ("I", [width]), 257: ("I", [height]), 258: ("H", [8, 8, 8]), 259: ("H", [7])}
    small |= {262: ("H", [6]), 277: ("H", [3]), 278: ("I", [height])}
    return tiff_file([(tags | small, [file.getvalue()])], order, page(mosaic, 32803, **cfa))


def read(data):
    return decode(data, use=lambda image: (np.array(image), image.info.get(raw.DECODED)))


@needs_rawpy
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_sensor_data_are_developed(order):
    pixels, decoded = read(dng(order=order))
    assert decoded == "developed" and pixels.shape == (*SIDES, 3)
    assert pixels[150:].mean() > pixels[:50].mean() + 40  # brighter below
    assert read(dng(preview=(600, 400), order=order))[1] == "developed"  # the preview is too small
    np.testing.assert_array_equal(read(dng(order=order))[0], pixels)


@needs_rawpy
def test_a_large_preview_is_taken_upright():
    pixels, decoded = read(dng(preview=(1800, 1200)))
    assert decoded == "preview" and pixels.shape == (1200, 1800, 3)
    assert pixels[:, :800].min() > 200 and pixels[:, 1000:].max() < 50
    turned, _ = read(dng(preview=(1800, 1200), orientation=6))  # clockwise: left becomes top
    assert turned.shape == (1800, 1200, 3) and turned[:800].min() > 200 and turned[1000:].max() < 50
    developed, _ = read(dng(orientation=6))
    assert developed.shape == (*SIDES[::-1], 3) and developed[:, :50].mean() > developed[:, 150:].mean() + 40


@needs_rawpy
def test_limits_and_damage_are_reported(monkeypatch):
    assert stored_size(dng(), "x.dng") == SIDES
    with pytest.raises(UnreadableImage, match="300x200 is 0.1 megapixels, above the limit"):
        decode(dng(), max_pixels=1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # Pillow's own limit is half of ours
    assert read(dng(preview=(1800, 1200)))[1] == "preview"
    with pytest.raises(UnreadableImage, match="1800x1200 is 2.2 megapixels, above the limit of 2"):
        decode(dng(preview=(1800, 1200)), max_pixels=2e6)
    data = dng()
    with pytest.raises(UnreadableImage, match=r"a raw photo \(Canon CR2\) that LibRaw cannot read .*develop it first"):
        decode(b"II*\0\x10\0\0\0CR\2\0" + bytes(200), name="x.cr2")
    broken = dng(preview=(1800, 1200))
    at = broken.index(b"\xff\xd8\xff")
    assert read(broken[:at] + bytes(400) + broken[at + 400 :])[1] == "developed"
    assert decode(io.BytesIO(data)).shape == (*SIDES, 3)


@needs_rawpy
def test_rows_say_which_pixels_were_scored(tmp_path, monkeypatch, capsys):
    scorer = fake_scorer()
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: scorer)
    (tmp_path / "a.dng").write_bytes(dng())
    (tmp_path / "b.dng").write_bytes(dng(preview=(1800, 1200)))
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "c.jpg")
    code, out, _ = driqa("score", tmp_path, "--decoded", capsys=capsys)
    assert code == 0 and [line.split(",")[-1] for line in out.splitlines()] == ["decoded", "developed", "preview", ""]
    assert driqa("score", tmp_path, "-o", tmp_path / "s.jsonl", capsys=capsys)[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row.get("decoded") for row in rows] == ["developed", "preview", None] and "decoded" not in rows[2]


def test_without_the_extra_the_refusal_names_it(monkeypatch):
    monkeypatch.setattr(raw, "available", lambda: False)
    for source in (dng(), dng(preview=(1800, 1200))):
        with pytest.raises(RawPhoto, match=r"a raw photo \(.*develop it first.*pip install 'driqa_jax\[raw\]'"):
            decode(source)
        with pytest.raises(RawPhoto):
            stored_size(source)


def test_the_refusal_survives_pickling():
    for camera in ("", "Canon CR2"):
        error = RawPhoto("a.cr2", camera)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.camera) == (str(error), error.camera)


def test_a_pair_is_one_photo_in_folders_and_globs(tmp_path):
    for name in ("a.CR2", "a.JPG", "b.nef", "c.dng", "c.heic", "d.dng", "d.tif", "e.jpg"):
        (tmp_path / name).touch()
    expected = ["a.JPG", "b.nef", "c.heic", "d.dng", "d.tif", "e.jpg"]  # a TIFF is developed elsewhere
    for argument in (str(tmp_path), f"{tmp_path}/*"):
        assert [path.rsplit("/", 1)[-1] for path in list_pictures([argument])] == expected
    assert list(list_pictures([f"{tmp_path}/a.CR2"])) == [f"{tmp_path}/a.CR2"]
