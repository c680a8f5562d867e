"""Percentiles and bands: what they say, and where they stand in files, the report, sidecars and the server."""

import csv
import json

import numpy as np
import pytest
from fake_model import fake_scorer, pictures
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_cli import driqa

from driqa_jax.checkpoints.weights import bundled, file_sha256
from driqa_jax.errors import UserError
from driqa_jax.reports.meaning import Bands, Meaning, parse_bands
from driqa_jax.reports.reference import Reference, from_scores, reference_path, shares
from driqa_jax.reports.xmp import read_sidecar
from driqa_jax.serving import answers


@pytest.fixture(scope="module")
def scorer():
    return fake_scorer()


@pytest.fixture
def fake(monkeypatch, scorer):
    """`load` gives a scorer of a tiny model that names "noise" in each image; the list has what it explained."""
    explained = []

    class Explanation:
        def named(self):
            return [type("Finding", (), {"label": "noise"})]

    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: scorer)
    monkeypatch.setattr(scorer, "explain", lambda path, **k: explained.append(path) or Explanation(), raising=False)
    return explained


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(pictures()[:5]):
        Image.fromarray(image).save(folder / f"{i}.jpg")
    return folder


def score_file(path, scores, sha256="x", effort="default"):
    rows = ["path,score,uncertainty,error", *(f"{i}.jpg,{score:.2f},1.00," for i, score in enumerate(scores))]
    path.write_text("\n".join([*rows, "broken.jpg,,,reason", ""]))
    path.with_suffix(".meta.json").write_text(json.dumps({"sha256": sha256, "effort": effort}))
    return path


# --------------------------------------------------------------------------------------------------------- parts
def test_percentiles_are_shares_below_with_ties_halved(tmp_path):
    scores = np.random.default_rng(0).normal(60, 15, 4000).clip(0, 100).round(2)
    reference = from_scores(score_file(tmp_path / "s.csv", scores))
    assert reference.count == 4000 and reference.percentile(-1) == 0 and reference.percentile(101) == 100
    for score in (20.0, 44.4, 60.0, 71.5, 90.0):
        share = 100 * ((scores < score).mean() + (scores <= score).mean()) / 2
        assert reference.percentile(score) == pytest.approx(share, abs=0.3)
    constant = from_scores(score_file(tmp_path / "c.csv", [50.0] * 200))
    assert [constant.percentile(score) for score in (49.0, 50.0, 51.0)] == [0, 50, 100]


def test_a_reference_survives_its_file_and_says_what_is_wrong(tmp_path):
    scores = np.linspace(10, 90, 300)
    made = from_scores(score_file(tmp_path / "s.csv", scores), "some photos", "CC0", "2026-01-02")
    made.save(tmp_path / "r.json")
    again = Reference.load(tmp_path / "r.json")
    assert again.describe() == made.describe() and again.describe()["photos"] == "some photos"
    assert abs(again.percentile(50.0) - 50) < 0.2
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="bad.json: cannot be read as a reference"):
        Reference.load(tmp_path / "bad.json")
    with pytest.raises(UserError, match="few.csv: 99 scores are too few"):
        from_scores(score_file(tmp_path / "few.csv", scores[:99]))
    (tmp_path / "s.meta.json").unlink()
    with pytest.raises(UserError, match="s.csv: cannot be read together with s.meta.json"):
        from_scores(tmp_path / "s.csv")
    with pytest.raises(UserError, match="extension must be one of .csv, .jsonl"):
        from_scores(tmp_path / "s.txt")


def test_the_bundled_model_has_a_reference_of_its_own_scores():
    reference = Reference.load(reference_path(bundled("lite")))
    assert reference.sha256 == file_sha256(bundled("lite"))
    assert reference.count >= 1000 and "BIQ2021" in reference.photos and "training" in reference.photos
    assert reference.licence and reference.date


def test_bands_are_parsed_and_named():
    stars = parse_bands("stars")
    assert [stars.name(value) for value in (0, 19.99, 20, 59.9, 80, 100)] == ["1", "1", "2", "3", "5", "5"]
    assert parse_bands("words").name(70) == "good"
    own = parse_bands("reject=0, keep=45,best=70")
    assert own.names == ("reject", "keep", "best") and own.name(45) == "keep"
    assert stars.require_ratings() == {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5}
    with pytest.raises(UserError, match="ratings need bands with names from -1 to 5"):
        own.require_ratings()


@pytest.mark.parametrize(
    "text", ["", "nonsense", "a=1", "a=0,a=5", "a=0,b=0", "a=0,b=x", "a=0,b=nan", "=0", "a=0,b=100"]
)
def test_bands_that_make_no_sense_are_refused(text):
    with pytest.raises(UserError, match="--bands .*: must be stars, words"):
        parse_bands(text)


@given(st.lists(st.integers(0, 10000), min_size=1, max_size=40))
def test_shares_rise_with_the_score_and_follow_the_counts(values):
    counts = np.bincount(values, minlength=10001)
    found = shares(counts)
    assert (np.diff(found) >= 0).all() and found[0] >= 0 and found[-1] <= 100
    middle = sorted(values)[len(values) // 2]
    below, equal = sum(v < middle for v in values), sum(v == middle for v in values)
    assert found[middle] == pytest.approx(100 * (below + equal / 2) / len(values))


# ------------------------------------------------------------------------------------------------------- command
def test_columns_follow_the_default_ones_and_resume_keeps_them(fake, photos, tmp_path, scorer, monkeypatch, capsys):
    monkeypatch.setattr(scorer, "explain", lambda *a, **k: 1 / 0)  # the report then shows the scores alone
    reference = score_file(tmp_path / "ref.csv", np.linspace(0, 100, 201), scorer.sha256)
    words = ["score", photos, "-o", tmp_path / "s.csv", "--percentile", "--reference", reference, "--bands", "words"]
    code, _, _ = driqa(*words, "--report", tmp_path / "r.html", capsys=capsys)
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert code == 0 and list(rows[0]) == ["path", "score", "uncertainty", "error", "percentile", "band"]
    for row in rows:
        assert float(row["percentile"]) == pytest.approx(float(row["score"]), abs=0.3)
        assert row["band"] == parse_bands("words").name(float(row["score"]))
    page = (tmp_path / "r.html").read_text()
    assert f"band {rows[0]['band']}, percentile {rows[0]['percentile']}" in page and "201 reference photos" in page
    meta = json.loads((tmp_path / "s.meta.json").read_text())
    assert meta["reference"]["count"] == 201 and meta["bands"]["by"] == "score"

    before = (tmp_path / "s.csv").read_bytes()
    assert driqa(*words, "--resume", capsys=capsys)[0] == 0 and (tmp_path / "s.csv").read_bytes() == before
    code, _, err = driqa("score", photos, "-o", tmp_path / "s.csv", "--resume", capsys=capsys)
    assert code == 2 and "columns" in err and (tmp_path / "s.csv").read_bytes() == before


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl"])
def test_bands_by_folder_are_quantiles_of_the_run_and_survive_resuming(fake, photos, tmp_path, name, capsys):
    (photos / "x.jpg").write_bytes(b"broken")
    words = ["score", photos, "-o", tmp_path / name, "--bands", "low=0,high=50", "--bands-by", "folder"]
    assert driqa(*words, capsys=capsys)[0] == 1
    text = (tmp_path / name).read_text()
    rows = list(csv.DictReader(text.splitlines())) if name == "s.csv" else list(map(json.loads, text.splitlines()))
    scores = sorted(float(row["score"]) for row in rows if row["score"])
    for row in rows:
        expected = ("high" if float(row["score"]) >= scores[2] else "low") if row["score"] else ""
        assert (row["band"] or "") == expected
    assert driqa(*words, "--resume", capsys=capsys)[0] == 1 and (tmp_path / name).read_text() == text


def test_options_that_do_not_go_together_are_refused_before_the_model_is_loaded(photos, monkeypatch, capsys):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: pytest.fail("loaded"))
    for words, said in (
        (["--bands-by", "folder"], "needs -o"),
        (["--bands-by", "percentile"], "--bands-by needs --bands"),
        (["--reference", "x.csv"], "--reference needs --percentile"),
        (["--overwrite"], "--overwrite needs --xmp"),
        (["--dry-run"], "--dry-run needs --xmp"),
        (["--bands", "a=1"], "must be stars"),
        (["--xmp", "darktable", "--bands", "words"], "ratings need bands"),
    ):
        code, out, err = driqa("score", photos, *words, capsys=capsys)
        assert code == 2 and said in err and not out


def test_weights_without_a_reference_refuse_percentiles(fake, photos, tmp_path, scorer, capsys):
    code, _, err = driqa("score", photos, "--percentile", capsys=capsys)
    assert code == 2 and "no reference distribution" in err and "--reference" in err
    other = score_file(tmp_path / "ref.csv", np.linspace(0, 100, 201), "another")
    code, _, err = driqa("score", photos, "--percentile", "--reference", other, capsys=capsys)
    assert code == 2 and "ref.csv: its scores were made with the weights another" in err


def test_sidecars_hold_stars_and_findings_and_are_explained_once(fake, photos, tmp_path, scorer, capsys):
    words = ["score", photos, "-o", tmp_path / "s.csv", "--xmp", "darktable"]
    assert driqa(*words[:4], capsys=capsys)[0] == 0  # scored before, without sidecars
    code, _, err = driqa(*words, "--resume", "--dry-run", capsys=capsys)
    assert (
        code == 0
        and "5 rows kept" in err
        and "5 sidecars to write" in err
        and "0.jpg.xmp: would be written, rating none ->" in err
    )
    assert not list(photos.glob("*.xmp"))
    code, _, err = driqa(*words, capsys=capsys)
    assert code == 0 and "5 sidecars written" in err and len(fake) == 10
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert list(rows[0]) == ["path", "score", "uncertainty", "error"]  # stars are not asked for as a column
    for row in rows:
        fields = read_sidecar(f"{row['path']}.xmp")
        assert fields.rating == int(parse_bands("stars").name(float(row["score"])))
        assert fields.hierarchical == ("driqa|noise",)
    code, _, err = driqa(*words, "--resume", capsys=capsys)
    assert code == 0 and "0 sidecars written, 5 unchanged" in err and len(fake) == 10


def test_a_bad_sidecar_and_a_persons_rating_do_not_stop_the_others(fake, photos, capsys):
    (photos / "0.xmp").write_text("<a>")
    (photos / "1.xmp").write_text(
        '<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><Description '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"/></RDF>'
    )
    (photos / "4.png").write_bytes((photos / "4.jpg").read_bytes())
    words = ["score", photos, "--xmp", "lightroom", "--bands", "2=0", "--no-findings"]
    code, _, err = driqa(*words, capsys=capsys)
    assert code == 1 and not fake
    assert "0.xmp: is no well-formed XML" in err and "1.xmp: the rating 5 is kept" in err
    assert "4.xmp: would be the sidecar of 4.jpg and of 4.png" in err
    assert "3 failed" in err and "1 higher ratings of a person kept" in err
    assert read_sidecar(photos / "2.xmp").rating == read_sidecar(photos / "3.xmp").rating == 2
    assert driqa(*words, "--overwrite", capsys=capsys)[0] == 1 and read_sidecar(photos / "1.xmp").rating == 2


def test_sidecars_by_folder_follow_the_ranks(fake, photos, tmp_path, capsys):
    words = ["score", photos, "-o", tmp_path / "s.csv", "--bands=-1=0,3=40", "--bands-by", "folder"]
    assert driqa(*words, "--xmp", "darktable", capsys=capsys)[0] == 0
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert {row["band"] for row in rows} == {"-1", "3"}
    assert all(read_sidecar(f"{row['path']}.xmp").rating == int(row["band"]) for row in rows)


# -------------------------------------------------------------------------------------------------------- server
def test_the_server_adds_what_it_was_asked_for():
    result = type("Result", (), {"score": 71.0, "uncertainty": 3.0})
    assert answers.score("a", result).keys() == {"name", "score", "uncertainty", "error"}
    meaning = Meaning(None, Bands(("low", "high"), (0.0, 50.0)))
    assert answers.score("a", result, meaning)["band"] == "high"
