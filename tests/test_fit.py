"""Fitting to one's own ratings: the ridge is numpy's, what is measured is of unseen images, and the file scores so."""

import json

import jax
import numpy as np
import pytest
from fake_model import picture
from test_deduction import CONFIG, METADATA, built
from tiny_model import random_params

import driqa_jax
from driqa_jax.checkpoints.weights import load_weights, save_weights
from driqa_jax.cli.main import main
from driqa_jax.data.csv_source import FolderSource
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.errors import UserError
from driqa_jax.inference.jax_executor import JaxExecutor
from driqa_jax.train.own_ratings import OwnRatings
from driqa_jax.train.residual import Residual, left, measure, strength

pytestmark = pytest.mark.usefixtures("tiny_variant")
WIDTHS = (5, 3)


def drawn(count=40, seed=0):
    """Features in two blocks, a score, and ratings that follow the score and one feature of each block."""
    rng = np.random.default_rng(seed)
    features = rng.normal(3.0, [1, 2, 3, 4, 5, 0.1, 0.1, 0.1], (count, 8))
    score = rng.normal(0.6, 0.1, count)
    mos = 0.5 + score - 0.6 + 0.03 * (features[:, 0] - 3) + 0.4 * (features[:, 6] - 3) + rng.normal(0, 0.02, count)
    return features, score, mos


def primal(features, score, mos):
    """Kernel and bias by `numpy.linalg.solve` in the space of features."""
    n, line = len(mos), np.stack([np.ones(len(mos)), score], axis=1)
    leftover = (mos - line @ np.linalg.lstsq(line, mos, rcond=None)[0]) * score.std() / mos.std()
    blocks = [block - block.mean(axis=0) for block in np.split(features, [5], axis=1)]
    scale = np.repeat([1 / np.sqrt(np.square(block).sum(axis=1).mean()) for block in blocks], WIDTHS)
    x = np.concatenate(blocks, axis=1) * scale
    weights = np.linalg.solve(x.T @ x + (3 + 200 / n) * np.eye(8), x.T @ leftover)
    return weights * scale, -features.mean(axis=0) @ (weights * scale)


def test_the_dual_is_the_primal_ridge_on_scaled_blocks():
    features, score, mos = drawn()
    kernel, bias = Residual(features, WIDTHS, score, mos).fit()
    expected = primal(features, score, mos)
    np.testing.assert_allclose(kernel, expected[0], rtol=1e-8)
    assert bias == pytest.approx(expected[1], rel=1e-8)
    assert np.abs(features @ kernel + bias).max() > 0.01


def test_others_are_judged_by_the_rows_alone():
    features, score, mos = drawn()
    rows, others = np.arange(25), np.arange(25, 40)
    kernel, bias = primal(features[rows], score[rows], mos[rows])
    ridge = Residual(features, WIDTHS, score, mos)
    np.testing.assert_allclose(ridge.of_others(rows, others), features[others] @ kernel + bias, atol=1e-10)
    np.testing.assert_allclose(ridge.fit(rows)[0], kernel, rtol=1e-8)
    changed = np.where(np.arange(40) < 25, mos, 9.0)
    np.testing.assert_array_equal(
        Residual(features, WIDTHS, score, changed).of_others(rows, others), ridge.of_others(rows, others)
    )


def test_the_residual_of_an_image_does_not_know_its_own_rating_nor_those_of_its_group():
    features, score, mos = drawn()
    groups = np.array([f"scene {i // 2}" for i in range(40)])
    found = Residual(features, WIDTHS, score, mos).out_of_fold(groups)
    changed = mos.copy()
    changed[:2] += 5
    again = Residual(features, WIDTHS, score, changed).out_of_fold(groups)
    np.testing.assert_array_equal(again[:2], found[:2])
    assert np.all(again[2:] != found[2:])
    with pytest.raises(UserError, match="all rated images belong to one group"):
        Residual(features, WIDTHS, score, mos).out_of_fold(np.full(40, "a"))


def test_the_target_is_what_a_line_leaves_in_units_of_the_score():
    _, score, mos = drawn()
    found = left(score, mos)
    assert abs(found.mean()) < 1e-12 and abs(found @ (score - score.mean())) < 1e-9
    np.testing.assert_allclose(left(score, 3 + 20 * mos), found, atol=1e-12)
    np.testing.assert_allclose(left(10 * score - 2, mos), 10 * found, atol=1e-11)
    assert not left(np.full(40, 0.3), mos).any() and not left(score, np.full(40, 0.3)).any()


def test_a_planted_gain_is_found_and_shuffled_ratings_are_refused():
    features, score, mos = drawn(120)
    groups = np.arange(120).astype(str)

    def gained(mos):
        return measure(score, score + Residual(features, WIDTHS, score, mos).out_of_fold(groups), mos)

    gain = gained(mos)
    assert gain.refusal() == "" and gain.difference.interval[0] > 0
    assert gain.difference.value == pytest.approx(gain.after.value - gain.before.value)
    rng = np.random.default_rng(0)
    refused = [gained(rng.permutation(mos)).refusal() for _ in range(20)]
    assert sum(map(bool, refused)) >= 19 and any("could be 0" in text for text in refused)


def test_a_score_that_needs_nothing_is_left_alone():
    features, score, _ = drawn(120)
    added = Residual(features, WIDTHS, score, score).out_of_fold(np.arange(120).astype(str))
    np.testing.assert_allclose(added, 0, atol=1e-12)
    assert "do not improve" in measure(score, score + added, score).refusal()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "base.safetensors"
    save_weights(path, random_params(built()), METADATA)
    return path


@pytest.fixture(scope="module")
def taste(model_file):
    """Ratings from 1 to 5 of the pictures of `FakeSource`: what the model says, and something else that it sees."""
    own = OwnRatings(model_file)
    rated, _ = own.read(FakeSource(60, size=64))
    parts = own.scores(rated)[:, 0], rated.features @ np.random.default_rng(2).normal(size=72)
    both = sum((part - part.mean()) / part.std() for part in parts)
    return 3 + 2 * both / np.abs(both).max()


@pytest.fixture(scope="module")
def photos(taste, tmp_path_factory):
    """A folder with pictures, their ratings, and a text that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    for number, data in enumerate(FakeSource(60, size=64).images()):
        (folder / f"{number}.png").write_bytes(data)
    write_ratings(folder / "ratings.csv", taste)
    (folder / "text.png").write_text("no image")
    return folder


def write_ratings(path, ratings, more=()):
    rows = [f"{i}.png,{rating:.4f}" for i, rating in enumerate(ratings)]
    path.write_text("\n".join(["image,mos", *rows, *more, ""]))


@pytest.fixture(scope="module")
def fitted_file(model_file, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("fitted") / "mine.safetensors"
    words = ["fit", str(photos / "ratings.csv"), "--mos-range", "1", "5", "--model", str(model_file), "-o", str(path)]
    assert main(words) == 0
    return path, words


def test_the_file_is_an_ordinary_model_with_the_residual_of_the_fit(model_file, photos, fitted_file):
    path, _ = fitted_file
    params, metadata = load_weights(path)
    base, before = load_weights(model_file)
    assert metadata["config"] == {**CONFIG, "head": {**CONFIG["head"], "residual": True}}
    added = params["head"].pop("residual_out")
    jax.tree.map(np.testing.assert_array_equal, params, base)
    assert added["kernel"].shape == (32 + 8 + 32, 1) and np.abs(added["kernel"]).max() > 0

    source = FolderSource(photos / "ratings.csv", mos_range=(1, 5))
    own = OwnRatings(model_file)
    rated, failed = own.read(source)
    assert not failed and own.widths == (32, 8, 32)
    plain, new = driqa_jax.load(model_file, cache=None), driqa_jax.load(path, cache=None)
    images = [source.encoded(row) for row in range(5)]
    parts = np.stack([each for each, _ in plain.predict_parts(images)])
    np.testing.assert_allclose(own.scores(rated)[:5], parts, atol=1e-5)
    kernel, bias = own.residual(rated).fit()
    expected = own.scores(rated, rated.features @ kernel + bias)[:5]
    np.testing.assert_allclose(np.stack([each for each, _ in new.predict_parts(images)]), expected, atol=2e-4)
    assert np.abs(expected - parts).max() > 0.005
    assert before["provenance"].items() <= metadata["provenance"].items()


def test_its_header_says_what_it_was_fitted_on_and_what_that_gained(fitted_file, photos, taste):
    path, _ = fitted_file
    metadata = load_weights(path)[1]
    said = metadata["provenance"]["residual"]
    assert said["data"] == "ratings.csv" and said["mos_range"] == [1.0, 5.0] and said["ratings"] == 60
    assert str(photos) not in json.dumps(metadata)
    assert said["srcc"]["difference"]["value"] > 0 and said["srcc"]["after"]["interval"][0] > 0
    assert metadata["interval"]["level"] == 0.9 and metadata["calibration"]["width"] > 0
    # Out of fold, not in sample: the fit itself agrees better with its ratings.
    scores = driqa_jax.load(path, cache=None)(list(FakeSource(60, size=64).images()))
    assert np.corrcoef(scores, taste)[0, 1] > metadata["provenance"]["validation"]["plcc"]
    assert said["srcc"]["after"]["value"] == pytest.approx(metadata["provenance"]["validation"]["srcc"])


def test_equal_input_gives_equal_bytes_and_commands_take_the_file(fitted_file, tmp_path, photos, capsys):
    path, words = fitted_file
    again = tmp_path / "again.safetensors"
    assert main([*words[:-1], str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()
    out = capsys.readouterr().out
    assert "60 ratings, SRCC before" in out and "gain +" in out and "sha256" in out
    photo = str(photos / "0.png")
    assert main(["score", photo, "--model", str(path), "-o", str(tmp_path / "s.jsonl")]) == 0
    assert main(["explain", photo, "--model", str(path), "-o", str(tmp_path / "out")]) == 0
    assert main(["export", "--model", str(path), "-o", str(tmp_path / "m.stablehlo")]) == 0
    capsys.readouterr()
    assert main(["info", "--model", str(path)]) == 0
    assert "fitted to 60 ratings of ratings.csv" in capsys.readouterr().out
    image = picture(70, 90, 1)
    scorer = driqa_jax.load(path, cache=None)
    mos, _ = scorer.apply(image[None] / np.float32(255))
    np.testing.assert_allclose(next(scorer.predict([image])), mos[0], atol=1e-4)


def test_what_is_kept_is_not_read_again_and_fits_the_same(fitted_file, tmp_path, monkeypatch):
    path, words = fitted_file
    outputs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    keep = ["--features", str(tmp_path / "kept")]
    assert main([*words[:-1], str(outputs[0]), *keep]) == 0
    monkeypatch.setattr(JaxExecutor, "predictions", lambda *_: pytest.fail("computed again"))
    assert main([*words[:-1], str(outputs[1]), *keep]) == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes() == path.read_bytes()


def test_a_second_fit_adds_to_the_first(fitted_file):
    own = OwnRatings(fitted_file[0])
    earlier = own.loaded.params["head"]["residual_out"]
    both = own._with_residual(np.ones(72), 0.5)["head"]["residual_out"]
    np.testing.assert_allclose(both["kernel"], earlier["kernel"] + 1)
    np.testing.assert_allclose(both["bias"], earlier["bias"] + 0.5)
    rated, _ = own.read(FakeSource(12, size=64))
    images = list(FakeSource(12, size=64).images())
    expected = list(driqa_jax.load(fitted_file[0], cache=None).predict(images))
    np.testing.assert_allclose(own.scores(rated)[:, 0], expected, atol=1e-5)


def run(words, capsys):
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_ratings_without_meaning_write_nothing(photos, model_file, tmp_path, capsys):
    shuffled, out = photos / "shuffled.csv", tmp_path / "no.safetensors"
    write_ratings(shuffled, np.random.default_rng(4).permutation(60) / 60)
    code, said, _ = run(["fit", shuffled, "--model", model_file, "-o", out], capsys)
    assert code == 1 and "not written, because" in said and not out.exists()


def test_an_unreadable_image_is_named_and_the_rest_goes_on(photos, taste, model_file, tmp_path, capsys):
    ratings, out = photos / "more.csv", tmp_path / "more.safetensors"
    write_ratings(ratings, taste, ["text.png,2"])
    code, said, errors = run(["fit", ratings, "--mos-range", 1, 5, "--model", model_file, "-o", out], capsys)
    assert code == 0 and said.startswith("60 ratings") and "text.png: " in errors and out.exists()


def test_too_few_equal_or_misplaced_ratings_are_one_line(photos, model_file, tmp_path, capsys):
    out = tmp_path / "no.safetensors"
    for ratings, more, words in (
        (np.arange(8) / 8, ["text.png,0.5"], "9 ratings, 1 of them without a readable image: a fit needs at least 10"),
        (np.full(12, 0.5), [], "all 12 ratings are equal"),
        (np.arange(12), [], "--mos-range 1 5"),
    ):
        write_ratings(photos / "bad.csv", ratings, more)
        code, _, errors = run(["fit", photos / "bad.csv", "--model", model_file, "-o", out], capsys)
        assert code == 2 and words in errors and "Traceback" not in errors and not out.exists()


def test_a_model_of_another_form_is_one_line(photos, tmp_path, capsys):
    config = {"variant": "tiny", "types": CONFIG["types"], "dropout": 0.0, "statistics": False}
    other = tmp_path / "other.safetensors"
    whole = {key: value for key, value in CONFIG.items() if key not in ("form", "head")}
    save_weights(other, random_params(built(form="interaction")), {**METADATA, "config": whole})
    assert config == whole
    words = ["fit", photos / "ratings.csv", "--mos-range", "1", "5", "--model", other]
    code, _, errors = run([*words, "-o", tmp_path / "n.safetensors"], capsys)
    assert code == 2 and "a fit needs one of the form 'deduction'" in errors


def test_train_takes_the_range_as_evaluate_does(photos, root, tmp_path, capsys):
    words = ["--config", root / "configs/finetune_csv.py", f"--config.data.path={photos / 'ratings.csv'}"]
    code, _, errors = run(["train", *words, "--mos-range", 1, 2, "--workdir", tmp_path / "run"], capsys)
    assert code == 2 and "lies outside" in errors and "(1,2)" in errors


def test_the_strength_falls_with_the_number_of_ratings():
    few, many = (Residual(features, WIDTHS, *rest).fit()[0] for features, *rest in (drawn(12), drawn(400)))
    assert strength(12) > strength(400) and np.linalg.norm(few) < np.linalg.norm(many)
