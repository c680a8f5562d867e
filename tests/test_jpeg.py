"""JPEG against libjpeg, through Pillow."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import data

from driqa_jax.degradations import apply
from driqa_jax.degradations.compression import (
    CHROMA_TABLE,
    LUMA_TABLE,
    jpeg_at_quality,
    jpeg_quality,
    jpeg_severity,
    scaled_table,
)

QUALITIES = (4, 10, 30, 50, 75, 95)
ours_at = jax.jit(jpeg_at_quality)

PHOTOS = {
    "astronaut 128x160": lambda: data.astronaut()[10:138, 120:280],
    "coffee 128x160": lambda: data.coffee()[100:228, 200:360],
    "chelsea 128x160": lambda: data.chelsea()[60:188, 110:270],
    # Neither side is a multiple of 2, 8 or 16.
    "astronaut 101x93": lambda: data.astronaut()[10:111, 140:233],
}


def libjpeg(pixels: np.ndarray, quality: int) -> tuple[np.ndarray, Image.Image]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    file = Image.open(stream)
    return np.asarray(file, np.float64), file


@pytest.mark.parametrize("photo", PHOTOS)
def test_decodes_to_what_libjpeg_decodes_to(photo):
    pixels = np.ascontiguousarray(PHOTOS[photo]())
    for quality in QUALITIES:
        ours = np.asarray(ours_at(jnp.asarray(pixels, jnp.float32) / 255, float(quality)), np.float64) * 255
        np.testing.assert_allclose(ours, np.round(ours), atol=1e-3)
        theirs, _ = libjpeg(pixels, quality)
        error = ((ours - theirs) ** 2).mean()
        assert 10 * np.log10(255**2 / max(error, 1e-12)) > 44, quality
        # The agreement is far below the loss itself, so a decoder that changed nothing would fail.
        assert error < 0.1 * ((pixels - theirs) ** 2).mean(), quality


def test_tables_are_libjpegs():
    pixels = np.zeros((16, 16, 3), np.uint8)
    for quality in range(1, 101):
        tables = libjpeg(pixels, quality)[1].quantization
        for slot, table in ((0, LUMA_TABLE), (1, CHROMA_TABLE)):
            ours = np.asarray(scaled_table(table, quality)).astype(int)
            assert ours.ravel().tolist() == list(tables[slot]), (quality, slot)


def test_severity_covers_the_quality_range():
    qualities = np.asarray(jpeg_quality(jnp.linspace(0, 1, 101)))
    assert qualities[0] == pytest.approx(95, abs=1e-3) and qualities[-1] == pytest.approx(4, abs=1e-3)
    assert (np.diff(qualities) < 0).all()
    for quality in (43, 36, 24, 7, 4, 80):
        assert float(jpeg_quality(jpeg_severity(quality))) == pytest.approx(quality, rel=1e-4)


def test_double_jpeg_is_libjpeg_twice_on_a_moved_grid():
    pixels = np.ascontiguousarray(PHOTOS["coffee 128x160"]())
    double = jax.jit(lambda key: apply("double_jpeg", key, jnp.asarray(pixels, jnp.float32) / 255, 0.6))

    def tables(severity: float) -> list[list[int]]:
        quality = jpeg_quality(severity)
        return [np.asarray(scaled_table(t, quality)).astype(int).ravel().tolist() for t in (LUMA_TABLE, CHROMA_TABLE)]

    def code(picture: np.ndarray, severity: float) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", qtables=tables(severity), subsampling="4:2:0")
        return np.asarray(Image.open(stream))

    orders = set()
    for seed in range(4):
        k_place, k_ratio, k_order = jax.random.split(jax.random.key(seed), 3)
        down, right = divmod(int(jax.random.randint(k_place, (), 1, 64)), 8)
        severities = [0.6, 0.6 * float(jax.random.uniform(k_ratio, minval=0.5))]
        if not bool(jax.random.bernoulli(k_order)):
            severities.reverse()
        orders.add(severities[0] == 0.6)
        wider = np.pad(pixels, ((8, 8), (8, 8), (0, 0)), mode="edge")
        for (y, x), severity in zip(((8, 8), (down, right)), severities, strict=True):
            window = np.ascontiguousarray(wider[y : y + 136, x : x + 168])
            wider[y : y + 136, x : x + 168] = code(window, severity)
        theirs = wider[8:136, 8:168].astype(np.float64)
        error = ((np.asarray(double(jax.random.key(seed))) * 255 - theirs) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 40, seed
        assert error < 0.1 * ((pixels - theirs) ** 2).mean(), seed
    assert orders == {True, False}


def test_half_the_chroma_is_libjpegs_420():
    halved = jax.jit(lambda image: apply("chroma_subsampling", jax.random.key(0), image, 0.25))
    for photo, make in PHOTOS.items():
        pixels = np.ascontiguousarray(make())
        theirs, _ = libjpeg(pixels, 100)
        ours = np.asarray(halved(jnp.asarray(pixels, jnp.float32) / 255), np.float64) * 255
        error = ((ours - theirs) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 45, photo
        assert error < 0.5 * ((pixels - theirs) ** 2).mean(), photo
