"""The pipeline: step n is the same bytes wherever it starts and however many hosts share it."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.data.pipeline import Place, evaluation_batches, finetune_batches, pretrain_batches
from driqa_jax.data.source import Joined, Source
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UnreadableImage

RULE = ViewRule(short=64, long=96, tile=32, tiles=4, canvases=((64, 64), (64, 96)))
CANVAS = (64, 96)
COUNT = 10


@pytest.fixture(scope="module")
def source():
    return Joined({"fake": FakeSource(6, size=80), "other": FakeSource(4, size=70, seed=1, name="other")})


def train_stream(source, batch_size=4, **place):
    return finetune_batches(source, RULE, CANVAS, batch_size, seed=3, place=Place(**place))


def crop_stream(source, batch_size=4, **place):
    return pretrain_batches(source, 24, batch_size, seed=3, place=Place(**place))


def take(stream, count):
    return list(itertools.islice(stream, count))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert first[key].dtype == second[key].dtype
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


STREAMS = pytest.mark.parametrize(
    "stream",
    [train_stream, crop_stream, lambda s, b=4, **place: evaluation_batches(s, RULE, CANVAS, b, Place(**place))],
    ids=["finetune", "pretrain", "evaluation"],
)


@STREAMS
def test_step_n_is_the_same_bytes_from_a_start_at_0_or_at_n(source, stream):
    straight = take(stream(source), 3)
    for n in (1, 2):
        assert_same(next(stream(source, start_step=n)), straight[n])


@STREAMS
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_see_what_one_sees(source, stream, hosts):
    whole = take(stream(source), 2)
    shares = [take(stream(source, process_index=i, process_count=hosts), 2) for i in range(hosts)]
    for step in range(2):
        parts = [share[step] for share in shares]
        assert all(len(part["index"]) == 4 // hosts for part in parts)
        assert_same({key: np.concatenate([part[key] for part in parts]) for key in parts[0]}, whole[step])


@STREAMS
def test_threads_change_nothing(source, stream):
    for one, other in zip(take(stream(source, threads=0), 2), take(stream(source, threads=3), 2), strict=True):
        assert_same(one, other)


def test_a_training_batch_holds_views_with_their_scores(source):
    batch = next(train_stream(source))
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        "whole": ((4, 64, 96, 3), np.uint8),
        "valid": ((4, 2), np.int32),
        "tiles": ((4, 4, 32, 32, 3), np.uint8),
        "tile_boxes": ((4, 4, 4), np.float32),
        "mos": ((4,), np.float32),
        "percentile": ((4,), np.float32),
        "dataset": ((4,), np.int32),
        "index": ((4,), np.int32),
    }
    for k, mos in enumerate(batch["mos"]):
        row = int(np.argmin(np.abs(source.column("mos") - mos)))
        assert batch["percentile"][k] == np.float32(source.column("percentile")[row])
        assert batch["dataset"][k] == (row >= 6)  # codes follow the order in which data sets appear
        picture = decode(source.encoded(row))
        seen = [make_view(image, RULE, CANVAS)["whole"] for image in (picture, picture[:, ::-1])]
        assert any(np.array_equal(batch["whole"][k], whole) for whole in seen)


def test_an_epoch_shows_each_picture_once_and_the_next_in_another_order(source):
    batches = take(train_stream(source, batch_size=5), 4)
    mos = np.concatenate([batch["mos"] for batch in batches]).reshape(2, COUNT)
    np.testing.assert_array_equal(
        np.sort(mos, axis=1), np.sort(np.tile(np.float32(source.column("mos")), (2, 1)), axis=1)
    )
    assert not np.array_equal(mos[0], mos[1])
    assert np.concatenate([batch["index"] for batch in batches]).tolist() == list(range(20))


def test_another_seed_is_another_order(source):
    other = next(finetune_batches(source, RULE, CANVAS, 10, seed=4))
    assert not np.array_equal(other["mos"], next(train_stream(source, batch_size=10))["mos"])


def test_flips_and_tile_places_are_drawn_anew_in_each_epoch(source):
    alone = FakeSource(1, size=80)
    batch = next(finetune_batches(alone, RULE, CANVAS, 16, seed=0))
    plain = make_view(decode(alone.encoded(0)), RULE, CANVAS)["whole"]
    flipped = sum(not np.array_equal(whole, plain) for whole in batch["whole"])
    assert 2 < flipped < 14
    assert len(np.unique(batch["tile_boxes"].reshape(16, -1), axis=0)) == 16


def test_half_of_the_photos_are_made_smaller_by_no_more_than_asked():
    alone = FakeSource(1, size=80)
    batch = next(finetune_batches(alone, RULE, CANVAS, 64, seed=0, shrink=0.6))
    top, _, bottom, _ = np.moveaxis(batch["tile_boxes"][:, 0], -1, 0)
    sides = RULE.tile / (bottom - top)
    assert 20 < (sides > 79.5).sum() < 44
    assert 47.5 < sides.min() < 56 and sides.max() < 80.5
    assert_same(next(finetune_batches(alone, RULE, CANVAS, 64, seed=0, shrink=0.6)), batch)


def test_half_of_the_photos_are_encoded_again_and_nothing_else_changes():
    alone = FakeSource(1, size=80)
    plain, batch = (next(finetune_batches(alone, RULE, CANVAS, 64, seed=0, quality=q)) for q in (100, 90))
    np.testing.assert_array_equal(batch["mos"], plain["mos"])
    changes = np.abs(batch["whole"].astype(float) - plain["whole"]).mean((1, 2, 3))
    assert 20 < np.count_nonzero(changes) < 44 and changes.max() < 20


def test_evaluation_keeps_the_order_and_pads_the_last_batch(source):
    batches = list(evaluation_batches(source, RULE, CANVAS, 4))
    assert [len(batch["mos"]) for batch in batches] == [4, 4, 4]
    joined = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert joined["index"].tolist() == [*range(COUNT), 9, 9]
    assert joined["real"].tolist() == [1] * COUNT + [0, 0] and joined["real"].dtype == np.float32
    np.testing.assert_array_equal(joined["mos"][:COUNT], np.float32(source.column("mos")))
    np.testing.assert_array_equal(joined["whole"][10], joined["whole"][9])
    for i in (0, 7):
        view = make_view(decode(source.encoded(i)), RULE, CANVAS)
        for key in view:
            np.testing.assert_array_equal(joined[key][i], view[key])


def test_evaluation_of_a_set_that_fills_its_batches_pads_nothing(source):
    batches = list(evaluation_batches(source, RULE, CANVAS, 5))
    assert len(batches) == 2 and all(batch["real"].all() for batch in batches)


class OfPictures(Source):
    """Given pictures, as PNG."""

    def __init__(self, pictures, name="mine"):
        self._pictures = pictures
        names = [f"{i}.png" for i in range(len(pictures))]
        columns = dict.fromkeys(("group", "subset", "split"), names)
        super().__init__(name, [0.5] * len(names), image_id=names, dataset=[name] * len(names), **columns)

    def encoded(self, i):
        if isinstance(self._pictures[i], bytes):
            return self._pictures[i]
        file = io.BytesIO()
        Image.fromarray(self._pictures[i]).save(file, "PNG")
        return file.getvalue()


def unique_pixels(height, width):
    """No two pixels alike: a crop then tells where it was cut and how it was turned."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_a_pretraining_crop_is_a_turned_or_mirrored_piece_of_the_photo():
    batch = next(pretrain_batches(OfPictures([unique_pixels(40, 50)]), 24, 32, seed=0))
    assert batch["photo"].shape == (32, 24, 24, 3) and batch["photo"].dtype == np.uint8
    assert batch["index"].tolist() == list(range(32)) and batch["index"].dtype == np.int32
    turns, corners = set(), set()
    for photo in batch["photo"]:
        y, x = photo[..., 0].astype(int), photo[..., 1].astype(int)
        corners.add((y.min(), x.min()))
        assert {tuple(pixel) for pixel in photo.reshape(-1, 3)[:, :2].tolist()} == {
            (i, j) for i in range(y.min(), y.min() + 24) for j in range(x.min(), x.min() + 24)
        }
        turns.add((tuple(photo[0, 1] - photo[0, 0].astype(int)), tuple(photo[1, 0] - photo[0, 0].astype(int))))
    assert len(turns) == 8  # the symmetries of a square
    assert len(corners) > 16


def test_halving_averages_two_by_two_of_the_sets_named():
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[::2, ::2] = 102  # one pixel of each four
    picture[1::2] = 51  # and two
    mean = round((102 + 51 + 51) / 4)
    both = Joined({"fine": OfPictures([picture], "fine"), "coarse": OfPictures([picture], "coarse")})

    def gray(halve):
        batch = next(pretrain_batches(both, 24, 8, seed=0, halve=halve))
        return [np.unique(photo).tolist() == [mean] for photo in batch["photo"]]

    assert all(gray(True)) and not any(gray(False))
    assert sum(gray(("coarse",))) == 4  # every other picture


def test_a_photo_smaller_than_the_crop_is_named():
    small = OfPictures([unique_pixels(40, 50)])
    for crop, halve, said in ((41, False, "50x40 is smaller"), (24, True, "25x20 once halved is smaller")):
        with pytest.raises(UnreadableImage, match=rf"mine: 0\.png: {said} than the crop of {crop}"):
            next(pretrain_batches(small, crop, 1, seed=0, halve=halve))


@STREAMS
@pytest.mark.parametrize("threads", [0, 2])
def test_a_broken_picture_is_named(stream, threads):
    whole = unique_pixels(40, 50)
    broken = OfPictures([whole, whole, b"no picture at all", whole])
    with pytest.raises(UnreadableImage, match=r"mine: 2\.png: not a picture"):
        take(stream(broken, threads=threads), 1)


def test_what_cannot_be_shared_is_refused(source):
    with pytest.raises(ValueError, match="a global batch of 4 does not divide evenly among 3 hosts"):
        train_stream(source, process_count=3)
    with pytest.raises(ValueError, match="process_index 2 is not below process_count 2"):
        train_stream(source, process_index=2, process_count=2)
