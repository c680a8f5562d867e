"""`driqa evaluate` on several sets, and `driqa info --model`."""

import csv
import json

import numpy as np
import pytest
from fake_model import METADATA, fake_params, fake_scorer, picture
from PIL import Image
from test_cli import driqa

from driqa_jax.checkpoints.weights import bundled, file_sha256, save_weights
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.evaluation.report import cross_table, make_report
from driqa_jax.reports.model_card import card_path
from tools import write_card


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Two sets of ratings with scores of another metric, and a scorer of a tiny model."""
    scorer = fake_scorer()
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: scorer)
    rng = np.random.default_rng(0)
    for name, count in (("one", 6), ("two", 8)):
        folder = tmp_path / name
        folder.mkdir()
        lines, other = ["image,mos"], ["image,score"]
        for i in range(count):
            Image.fromarray(picture(40, 60, i)).save(folder / f"{i}.png")
            lines.append(f"{i}.png,{rng.random():.3f}")
            other.append(f"{i}.png,{rng.random():.3f}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / f"rival_{name}.csv").write_text("\n".join(other) + "\n")
    return tmp_path


def test_several_sets_give_one_table(sets, capsys):
    data = ["--data", sets / "one/one.csv", "--data", sets / "two/two.csv", "--split", "all"]
    words = ["evaluate", *data, "--scores", sets / "rival_{set}.csv", "--bootstrap", "50"]
    code, out, err = driqa(*words, "-o", sets / "r.json", "--table", sets / "t.csv", capsys=capsys)
    assert code == 0 and "one (6)" in out and "two (8)" in out and "two" in err
    saved = json.loads((sets / "r.json").read_text())["sets"]
    assert list(saved) == ["one", "two"] and saved["two"]["n"] == 8
    rows = list(csv.DictReader((sets / "t.csv").open()))
    assert [(row["metric"], row["scores"]) for row in rows] == [
        (metric, scores) for metric in ("SRCC", "PLCC, fitted") for scores in ("fake", "rival")
    ]
    rival = rows[1]
    for name in ("one", "two"):
        mos, other = (
            [float(line.split(",")[1]) for line in path.read_text().splitlines()[1:]]
            for path in (sets / name / f"{name}.csv", sets / f"rival_{name}.csv")
        )
        assert float(rival[name]) == pytest.approx(srcc(np.array(other), np.array(mos)))
    assert float(rival["mean"]) == pytest.approx((float(rival["one"]) + float(rival["two"])) / 2)


def test_scores_have_the_name_of_their_file(sets, capsys):
    (sets / "rival_one.csv").rename(sets / "rival_.csv")
    words = ["evaluate", "--data", sets / "one/one.csv", "--split", "all", "--model", "none", "--bootstrap", "0"]
    code, out, _ = driqa(*words, "--scores", sets / "rival_.csv", capsys=capsys)
    assert code == 0 and "rival_" in out


def test_a_set_that_cannot_be_scored_does_not_stop_the_others(sets, capsys):
    for path in (sets / "one").glob("*.png"):
        path.write_bytes(b"broken")
    data = ["--data", sets / "one/one.csv", "--data", sets / "two/two.csv", "--split", "all", "--bootstrap", "0"]
    code, out, err = driqa("evaluate", *data, capsys=capsys)
    assert code == 1 and "two (8)" in out and "one (" not in out and "none of 6 images could be scored" in err


def test_options_of_several_sets_are_checked_before_the_first_image(sets, monkeypatch, capsys):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: pytest.fail("loaded"))
    data = ["--data", sets / "one/one.csv", "--data", sets / "two/two.csv"]
    for words, said in (
        (["--split", "all", "--per-image", sets / "p.csv"], "--per-image: works with one --data"),
        (["--split", "all", "--split", "all", "--split", "all"], "--split: given 3 times for 2 --data"),
        (["--split", "all", "--scores", sets / "none_{set}.csv"], "none_one.csv"),
        (["--split", "all", "--data", sets / "three.csv"], "three.csv"),
        (["--data", "more/two.csv", "--scores", sets / "rival_{set}.csv"], "{set} is the same name for several"),
    ):
        code, _, err = driqa("evaluate", *data, *words, capsys=capsys)
        assert code == 2 and said in err.splitlines()[-1]


def test_a_source_that_a_set_lacks_is_undefined_there():
    rng = np.random.default_rng(0)
    mos, scores, other = rng.random((3, 20))
    reports = {
        "a": make_report(scores, mos, "a", "all", {"model": "m"}, others={"x": other}),
        "b": make_report(scores, mos, "b", "all", {"model": "m"}),
    }
    rows = cross_table(reports, ["srcc"]).rows
    assert [row[1] for row in rows] == ["m", "x"] and rows[0][2].value == rows[0][4].value
    assert rows[1][3].value is None and rows[1][4].value is None


# -------------------------------------------------------------------------------------------------- the model card
def test_info_prints_the_card_of_the_bundled_model(capsys):
    code, out, _ = driqa("info", "--model", "lite", capsys=capsys)
    assert code == 0
    for said in ("Apache-2.0", "BIQ2021", file_sha256(bundled("lite")), "SRCC 0.", "known failures", "not for"):
        assert said in out
    assert "reference for --percentile: 1," in out


def test_info_of_other_weights_says_what_is_not_known(tmp_path, capsys):
    weights = tmp_path / "mine.safetensors"
    save_weights(weights, fake_params(), METADATA)
    code, out, _ = driqa("info", "--model", weights, capsys=capsys)
    assert code == 0 and "variant lite" in out and "results: none are stored" in out
    assert "reference for --percentile: none" in out and "known failures" not in out


def test_the_stored_card_is_the_one_that_the_results_give(tmp_path, monkeypatch):
    before = card_path(bundled("lite")).read_bytes()
    monkeypatch.setattr(write_card, "card_path", lambda weights: tmp_path / "card.json")
    write_card.main()
    assert (tmp_path / "card.json").read_bytes() == before
