"""Few ratings are the normal case: what cannot be fitted is left out and said, and nothing learned is lost."""

import re

import numpy as np
import pytest
import tiny_config
from small_sets import draw
from tiny_model import random_params, tiny

import driqa_jax
from driqa_jax.checkpoints.load import describe
from driqa_jax.checkpoints.weights import save_weights
from driqa_jax.errors import UnreadableImage, UserError
from driqa_jax.inference.calibration import IDENTITY
from driqa_jax.inference.conformal import lacking
from driqa_jax.train.export import _calibrated, export
from driqa_jax.train.loop import Hooks, _saved_if_unreadable, train


@pytest.mark.parametrize(
    "count, words",
    [(1, "1 image .*no calibration and no interval"), (12, "12 images .*has no interval"), (30, "^$")],
)
def test_what_the_validation_fold_allows_is_said(count, words):
    assert re.search(words, lacking(count))


def test_without_enough_pictures_or_agreement_a_calibration_is_the_identity_with_a_warning():
    rising = np.linspace(0.2, 0.8, 40)
    for predicted, mos, warned in (
        (rising[:1], rising[:1], 1),
        (rising[:12], rising[::-1][:12], 2),
        (rising, rising, 0),
    ):
        said = []
        found = _calibrated(predicted, mos, said.append)
        assert len(said) == warned and (found == IDENTITY) == bool(warned)


def test_an_unreadable_image_in_training_is_an_error_after_the_save():
    for unsaved, words in ((True, "the state of the last step is saved. Repair"), (False, "gone. Repair")):
        called = []
        message = f"set: a.png: gone.*{words}.*run the same command" if unsaved else f"set: a.png: {words}"
        rescue = [lambda: called.append("save"), lambda: called.append("close")]  # noqa: B023
        with pytest.raises(UserError, match=message), _saved_if_unreadable(lambda: unsaved, *rescue):  # noqa: B023
            raise UnreadableImage("set: a.png", "gone")
        assert called == ["save", "close"] * unsaved


@pytest.fixture
def rated(tmp_path):
    """A training of 24 steps on twelve rated images, and the folder of the images."""
    lines = ["image,mos"]
    for number in range(12):
        draw(tmp_path / "photos" / f"{number}.png", number)
        lines.append(f"{number}.png,{number / 12:.3f}")
    ratings = tmp_path / "photos" / "ratings.csv"
    ratings.write_text("\n".join(lines) + "\n")
    config = tiny_config.get_config()
    config.data.kind, config.data.path, config.data.name = "folder", str(ratings), ""
    config.batch_size, config.steps, config.eval_every = 8, 24, 0
    start = {"config": config.to_dict(), "examples": 0, "step": 0}
    config.init = str(tmp_path / "start.safetensors")
    save_weights(config.init, random_params(tiny(config.model)), describe(start))
    return config, ratings.parent


@pytest.mark.long
@pytest.mark.usefixtures("tiny_variant")
def test_twelve_ratings_with_one_image_lost_on_the_way_give_a_model_that_scores(rated, tmp_path):
    config, photos = rated
    run, lost = tmp_path / "run", photos / "3.png"
    sound, steps = lost.read_bytes(), []

    def lose(step, _):
        steps.append(step)
        if step == 2:
            for image in photos.glob("*.png"):  # whichever is read next
                image.rename(image.with_suffix(".away"))

    with pytest.raises(UserError, match=r"\.png: .*the state of the last step is saved. Repair.*run the same command"):
        train(config, str(run), Hooks(on_batch=lose))
    last = steps[-1]
    for image in photos.glob("*.away"):
        image.rename(image.with_suffix(".png"))
    assert lost.read_bytes() == sound
    assert train(config, str(run), Hooks(on_batch=lambda step, _: steps.append(step))) == 0
    assert steps[-1] == 23 and last < 23 and steps.count(last + 1) == 1  # it went on where it was

    said = []
    export(run, tmp_path / "own.safetensors", "CC0", warn=said.append)
    assert said and "no calibration" in " ".join(said) or "not calibrated" in " ".join(said), said
    assert 0 <= driqa_jax.load(tmp_path / "own.safetensors")(photos / "0.png") <= 100
