"""Few ratings are the normal case: what cannot be fitted is left out and said, and nothing learned is lost."""

import numpy as np
import pytest

from driqa_jax.errors import UnreadableImage, UserError
from driqa_jax.inference.calibration import IDENTITY
from driqa_jax.inference.conformal import lacking
from driqa_jax.train.export import _calibrated
from driqa_jax.train.loop import _saved_if_unreadable


@pytest.mark.parametrize(
    "count, words",
    [(1, "1 image .*no calibration and no interval"), (12, "12 images .*has no interval"), (30, "^$")],
)
def test_what_the_validation_fold_allows_is_said(count, words):
    import re

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
