"""Folders of explanations and reports: whole, bounded, and harmless whatever a file is called."""

import dataclasses
import html.parser
import json

import numpy as np
import pytest
from fake_model import picture
from PIL import Image
from tiny_scorer import tiny_scorer

from driqa_jax.cli import main as cli
from driqa_jax.errors import UserError
from driqa_jax.inference.scorer import Result
from driqa_jax.reports import gallery
from driqa_jax.reports.gallery import Gallery
from driqa_jax.reports.html import EXTREMES, Report

EVIL = "<script>alert(1)<script><img src=x onerror=alert(1)>\"onload='x'&amp;.png"
PROVENANCE = {"model": "tiny", "sha256": "ab" * 32, "versions": {"jax": "1.2"}}


@pytest.fixture(scope="module")
def scorer():
    return tiny_scorer()


@pytest.fixture(scope="module")
def found(scorer):
    return scorer.explain(picture(64, 64, 1), f"folder/{EVIL}")


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts = [], []
        data = path.read_bytes()
        self.size = len(data)
        self.feed(data.decode())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def every(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def check_harmless(page, scripts):
    assert len(page.every("script")) == scripts and all(not one for one in page.every("script"))
    policy = page.every("meta")[-1]["content"]
    assert "default-src 'none'" in policy and "unsafe-inline'; script-src 'sha256-" in policy
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "link", "base")
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:image/webp;base64,"[:5])
    assert all(one["alt"] for one in page.every("img"))


def test_a_gallery_gives_each_image_a_unique_name(found, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "PER_PAGE", 2)
    folder = tmp_path / "new" / "out"
    with Gallery(folder, PROVENANCE, threshold=0.0) as pages:
        for name in (f"a/{EVIL}", "a/dog.jpg", "b/DOG.png", "b/dog-2.webp", "b/\udcff.png"):
            pages.add(dataclasses.replace(found, name=name))
        pages.fail("c/<b>.jpg", "the file is empty")
    sheets = {file.name for file in folder.glob("*.png")}
    assert {"dog.png", "DOG-2.png", "dog-2-2.png"} < sheets and len(sheets) == 5
    lines = [json.loads(line) for line in (folder / "explanations.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines[:2]] == [f"a/{EVIL}", "a/dog.jpg"]
    assert {line["sheet"] for line in lines[:5]} == sheets
    assert lines[5] == {"path": "c/<b>.jpg", "error": "the file is empty"}
    pages = [Page(folder / name) for name in ("index.html", "index-2.html", "index-3.html")]
    for page, photos in zip(pages, (2, 2, 1), strict=True):
        check_harmless(page, scripts=1)
        sliders = page.every("input")
        assert len(sliders) == photos == len(page.every("article"))
        assert all(one["type"] == "range" and one["aria-label"] for one in sliders)
        assert len(page.every("img")) == 3 * photos
    assert EVIL in pages[0].texts and "the file is empty" in pages[2].texts and "motion blur" in pages[1].texts
    assert [[one["href"] for one in page.every("a")] for page in pages] == [
        ["index-2.html"],
        ["index.html", "index-3.html"],
        ["index-2.html"],
    ]
    assert not list(folder.glob(".*"))


class Recording:
    """Explains everything alike, but for what is gone."""

    def __init__(self, found, gone=()):
        self.found, self.gone, self.asked = found, gone, []

    def explain(self, path, **options):
        self.asked.append(path)
        if path in self.gone:
            raise ValueError("gone")
        return dataclasses.replace(self.found, name=path)


def test_a_report_explains_only_the_worst_and_the_best(found, tmp_path):
    scores = np.random.default_rng(0).permutation(np.round(np.linspace(1, 99, 1500), 2))
    order = np.argsort(scores)
    worst, best = [f"d/{i}" for i in order[:EXTREMES]], [f"d/{i}" for i in order[::-1][:EXTREMES]]
    recording = Recording(found, gone=worst[:1])
    with Report(tmp_path / "r.html", recording, PROVENANCE) as report:
        for i, score in enumerate(scores):
            report.write(Result(f"d/{i}", float(score)))
        for i in range(70):
            report.write(Result(f"{EVIL}{i}", None, f"reason <b>{i if i > 9 else 0}</b>"))
        assert len(report._worst) == len(report._best) == EXTREMES and not recording.asked
    assert recording.asked == worst + best
    page = Page(tmp_path / "r.html")
    check_harmless(page, scripts=0)
    assert len(page.every("img")) == 2 * (2 * EXTREMES - 1) and page.size < 16e6
    for said in ("1,500", "70", "1.0", "99.0", "50.0", "cannot be read again: gone", f"{EVIL}0", "other reasons"):
        assert said in page.texts, said
    assert page.texts.count("10") == 1 and f"{EVIL}3" not in page.texts  # ten alike, three named
    assert PROVENANCE["sha256"] in page.texts and "jax 1.2" in page.texts
    bars = [float(one["height"]) for one in page.every("rect")]
    assert len(bars) == 20 and max(bars) == 200 and min(bars) > 150


def test_few_images_appear_once_and_no_image_still_gives_a_page(found, tmp_path):
    recording = Recording(found)
    with Report(tmp_path / "r.html", recording, PROVENANCE) as report:
        for name, score in (("a", 100.0), ("b", 0.0), ("c", 50.0)):
            report.write(Result(name, score))
    assert recording.asked == ["b", "c", "a"]
    with Report(tmp_path / "none.html", recording, PROVENANCE) as report:
        report.write(Result("a", None, "the file is empty"))
    assert "the file is empty" in Page(tmp_path / "none.html").texts
    with Report(tmp_path / "stopped.html", Recording(found), PROVENANCE) as report:
        report.write(Result("a", 5.0))
        report._scorer.explain = lambda *a, **k: (_ for _ in ()).throw(AssertionError)
        report.__exit__(KeyboardInterrupt, None, None)
        assert any("Interrupted" in text for text in Page(tmp_path / "stopped.html").texts)
        report._scorer = Recording(found)
    for bad in (tmp_path / "r.txt", tmp_path / "no" / "r.html"):
        with pytest.raises(UserError, match=bad.name):
            Report(bad, recording, PROVENANCE)


def test_the_size_of_a_report_is_bounded(found, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    loud = dataclasses.replace(found, picture=noise, restored=noise, size=(400, 400))
    with Report(tmp_path / "r.html", Recording(loud), PROVENANCE) as report:
        for i in range(2 * EXTREMES):
            report.write(Result(f"{i}", float(i)))
    assert Page(tmp_path / "r.html").size < 6e6


def test_the_commands_leave_pages_and_report_what_is_broken(scorer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: scorer)
    photos, out = tmp_path / "photos", tmp_path / "out"
    (photos / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "sub/a.png", "sub/b.png")):
        Image.fromarray(picture(64, 64, i)).save(photos / name)
    (photos / "broken.png").write_bytes(b"")
    assert cli.main(["explain", str(photos), "-o", str(out), "--threshold", "0.999"]) == 1
    said = capsys.readouterr()
    assert f"{photos}/broken.png: the file is empty" in said.err and "3 explained, 1 failed" in said.err
    assert len(said.out.splitlines()) == 3 and "nothing stands out" in said.out
    assert sorted(file.name for file in out.iterdir()) == sorted(
        ["a.png", "a-2.png", "b.png", "explanations.jsonl", "index.html"]
    )
    first = {file.name: file.read_bytes() for file in out.iterdir()}
    assert cli.main(["explain", str(photos), "-o", str(out), "--threshold", "0.999"]) == 1
    assert first == {file.name: file.read_bytes() for file in out.iterdir()}
    capsys.readouterr()
    for folder in (photos, photos / "sub"):  # a sheet must not replace a photo
        assert cli.main(["explain", str(photos), "-o", str(folder)]) == 2
        assert "write to another folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["explain", str(photos), "-o", str(out), "--threshold", "2"])

    page = tmp_path / "r.html"
    assert cli.main(["score", str(photos), "-o", str(tmp_path / "s.csv"), "--report", str(page)]) == 1
    assert "explaining 3 images" in capsys.readouterr().err
    assert {"a.png", "b.png", "the file is empty (zero bytes)"} <= set(Page(page).texts)
    assert cli.main(["score", str(photos), "--report", str(tmp_path / "r.txt")]) == 2

    # A report of a resumed run is of all its rows.
    lines = (tmp_path / "s.csv").read_text().splitlines(keepends=True)
    (tmp_path / "s.csv").write_text("".join(lines[:3]))
    whole = page.read_bytes()
    words = ["score", str(photos), "-o", str(tmp_path / "s.csv"), "--resume", "--report", str(page)]
    assert cli.main(words) == 1 and page.read_bytes() == whole
