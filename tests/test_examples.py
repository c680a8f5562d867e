"""The bundled model on the example photographs: what a person sees at a glance, the score says too."""

import pytest

import driqa_jax


@pytest.fixture(scope="module")
def scorer():
    return driqa_jax.load()


def test_each_faulty_photo_scores_below_its_original(root, scorer):
    photos = {file.name: file for file in sorted((root / "examples" / "photos").glob("*.*")) if file.suffix != ".md"}
    scores = dict(zip(photos, scorer(list(photos.values())), strict=True))
    faulty = [name for name in photos if "_" in name]
    assert len(faulty) == 6
    for name in faulty:
        original = next(other for other in photos if other.split(".")[0] == name.split("_")[0])
        assert scores[name] < scores[original], (name, scores[name], original, scores[original])


def test_the_same_photo_gets_the_same_bytes_among_any_neighbors(root, scorer):
    photos = root / "examples" / "photos"
    alone = scorer(photos / "dog.jpg")
    forwards = scorer([photos / name for name in ("city.jpg", "dog.jpg", "nyc_shake.jpg")])
    backwards = scorer([photos / name for name in ("nyc_shake.jpg", "dog.jpg", "city.jpg")])
    assert alone == forwards[1] == backwards[1]
