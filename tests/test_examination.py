"""The examination of a degradation encoder and a restorer, on models whose results are known beforehand."""

import csv
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import data

from driqa_jax.degradations import NAMES, Recipe
from driqa_jax.degradations.recipes import KADID
from driqa_jax.evaluation import examination
from driqa_jax.evaluation.examination import CLASS_OF, Examiner, classes
from driqa_jax.models.degradation_encoder import Degradation

SIDE, COUNT = 32, 3


def photos():
    places = ((40, 200), (120, 180), (300, 60))
    return np.stack([data.astronaut()[y : y + SIDE, x : x + SIDE] for y, x in places])


class Oracle:
    """Knows the clean photographs, restores half of the way to them, and names always the same."""

    def __init__(self, clean, logits):
        self.clean, self.logits = jnp.asarray(clean, jnp.float32) / 255.0, logits

    def apply(self, variables, images, d=None, method=None):
        if method == "restore":
            # The vector says which picture it is of: a wrong one leads half way to another photograph.
            target = jnp.tensordot(d, self.clean, axes=1)
            return images + 0.5 * (target - images)
        apart = jnp.square(images[:, None] - self.clean[None]).mean(axis=(2, 3, 4))
        vector = jax.nn.one_hot(apart.argmin(axis=1), COUNT)
        logits = jnp.broadcast_to(jnp.asarray(self.logits)[None], (images.shape[0], len(self.logits)))
        color = images.mean(axis=(1, 2))
        return Degradation(vector[:, None], vector, color - 0.4, logits, jnp.full(logits.shape, 0.75))


PARAMS = {"degradation_encoder": {}, "restoration": {}}


@pytest.fixture(scope="module")
def examiner():
    logits = np.full(len(NAMES), -1.0, np.float32)
    logits[NAMES.index("jpeg")], logits[NAMES.index("brighten")], logits[NAMES.index("pixelate")] = 3.0, 2.0, 1.0
    return Examiner(Oracle(photos(), logits), PARAMS, NAMES, photos())


def test_the_classes_are_21():
    assert len(classes(NAMES)) == 21 and set(CLASS_OF) == set(KADID) and len(KADID) == 25
    assert classes(("jpeg", "brighten", "haze", "darken")) == ("jpeg", "tone")


def test_one_answer_for_all_is_right_once_in_21(examiner):
    found = examiner.naming()
    assert found.top1 == pytest.approx(1 / 21) and found.top3 == pytest.approx(3 / 21)
    assert found.clean == 0.0
    assert 0.1 < found.severity_error < 0.16  # of a uniform draw from [.5, 1], against .75: .125
    column = found.classes.index("jpeg")
    assert (found.confusion[:, column] == found.confusion.sum(axis=1)).all() and found.confusion.shape == (21, 21)
    assert found.confusion.sum() == 25 * 4 * COUNT and (found.unsure == 0).all()


def test_restoring_half_way_gains_six_decibels_and_a_wrong_vector_loses(examiner):
    found = examiner.restoration()
    assert found.psnr_before.shape == (len(NAMES), 5, COUNT) and found.levels.shape == (len(NAMES), 5)
    noise = NAMES.index("white_noise")
    # Half of the error is a quarter of its square.
    gain = found.psnr_after - found.psnr_before
    assert gain[noise] == pytest.approx(20 * np.log10(2), abs=0.05)
    assert (found.psnr_shuffled[noise] <= found.psnr_after[noise] + 1e-4).all()
    assert found.psnr_shuffled[noise].mean() < found.psnr_after[noise].mean() - 1
    assert found.psnr_clean == pytest.approx(80.0)
    rows = list(csv.DictReader(io.StringIO(examination.restoration_csv(found))))
    assert len(rows) == 5 * len(NAMES)
    row = next(r for r in rows if r["degradation"] == "white_noise" and r["level"] == "3")
    assert float(row["psnr_gain"]) == pytest.approx(gain[noise, 2].mean(), abs=1e-3)
    naming = examiner.naming()
    summary = examination.summary(naming, found, 0.5)
    assert summary["psnr_gain_jpeg"] == pytest.approx(gain[NAMES.index("jpeg"), 2].mean(), abs=1e-3)
    low, high = summary["psnr_true_over_shuffled_d_95"]
    assert low <= summary["psnr_true_over_shuffled_d"] <= high
    json.dumps(summary)
    for figure in (examination.confusion_figure(naming), examination.restoration_figure(found)):
        canvas = io.BytesIO()
        figure.savefig(canvas, format="png", metadata={"Software": None})
        assert Image.open(canvas).size[0] > 400


def test_retrieval_counts_the_nearest_other_photograph(examiner):
    # Clean chains are one chain, so that everything near is right.
    assert examiner.retrieval(Recipe(max_steps=1, step_weights=(1.0,), p_clean=1.0), chains=2, batches=1) == 1.0
    apart = examiner.retrieval(Recipe(max_steps=1, step_weights=(1.0,), p_clean=0.0), chains=8, batches=2)
    assert 0.0 <= apart < 0.7


def test_photographs_must_be_several_pictures():
    with pytest.raises(ValueError, match=r"photos must be \(P, S, S, 3\)"):
        Examiner(Oracle(photos(), np.zeros(3)), PARAMS, NAMES, photos()[:1])
