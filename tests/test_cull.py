"""`driqa cull`: groups that do not depend on the order of files, ranks, reasons, resumed runs, bad files."""

import csv
import json
import os
import pathlib
import random
import re

import numpy as np
import pytest
from PIL import Image
from test_near_duplicates import scene
from tiny_scorer import tiny_scorer

from driqa_jax.cli import main as cli
from driqa_jax.data import bursts
from driqa_jax.data.decode import decode, register_heif
from driqa_jax.data.photo_facts import Facts, measure
from driqa_jax.errors import UnreadableImage, UserError
from driqa_jax.inference import scorer as scorer_module
from driqa_jax.inference.explain import Finding
from driqa_jax.inference.scorer import Result
from driqa_jax.reports import cull_files, culling
from driqa_jax.reports.cull_page import write_cull_page
from driqa_jax.reports.culling import Photo, Rule, choose
from driqa_jax.reports.differing_region import differing_region
from driqa_jax.reports.xmp import rate, read_sidecar, sidecar_path

CAMERA = "Maker Model 7"


class FakeScorer:
    """Scores the spread of an image; finds a blur in images without one. Fails as a real one does."""

    workers, max_pixels = 2, 1e6

    def __init__(self):
        self.scored, self.found = [], []

    def stream(self, images):
        for path in images:
            if isinstance(path, UnreadableImage):
                yield Result(path.path, None, path.reason)
                continue
            self.scored.append(path)
            yield Result(path, round(float(decode(path).std()), 2), uncertainty=5.0)

    def findings(self, images):
        for path in images:
            self.found.append(path)
            try:
                spread = float(decode(path).std())
            except UnreadableImage as error:
                yield error
            else:
                yield (Finding("lens_blur", 0.9, max(0.0, 1 - spread / 60)), Finding("jpeg", 0.001, 1.0))


def save(image, path, time=None, camera="Model 7", fraction=None, **options):
    exif = Image.Exif()
    if time is not None:
        exif[0x010F], exif[0x0110] = "Maker", camera
        exif.get_ifd(0x8769).update({0x9003: time, **({0x9291: fraction} if fraction else {})})
    image.save(path, exif=exif, **options)
    return str(path)


def moved(seed, by=0, side=256):
    """A scene as a camera sees it that was moved by some pixels."""
    return scene(seed, side).crop((16 + by, 16, side - 16 + by, side - 16))


def facts_of(image, taken=None, camera=CAMERA):
    thumbnail = np.asarray(image.convert("L").resize((48, 48), Image.Resampling.BOX))
    return Facts(thumbnail, taken, camera, 0.0, 0.0, 1.0)


def photo(path, score, highlights=0.0, sharpness=1.0, gray=120, **findings):
    facts = Facts(np.full((48, 48), gray, np.uint8), None, "", highlights, 0.0, sharpness)
    return Photo(path, score, facts, {name: (1.0, severity) for name, severity in findings.items()})


@pytest.fixture
def folder(tmp_path):
    """Two bursts of two shots, one other photo, a broken file."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed, name in ((1, "a"), (2, "b")):
        moved(seed).save(photos / f"{name}1.png")
        moved(seed, 9).point(lambda level: level // 2 + 64).save(photos / f"{name}2.png")
    moved(3).save(photos / "c.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff none")
    return photos


def paths_in(folder):
    return sorted(str(path) for path in folder.iterdir())


def cull(folder, out, scorer, resume=False, tell=lambda result, rows: None):
    """What the command does between its scorer and the page."""
    out.mkdir(exist_ok=True)
    provenance = {"sha256": "ab"}
    cull_files.write_scores(out, scorer, paths_in(folder), provenance, resume, tell)
    photos, failed = cull_files.read_scores(out)
    groups = culling.grouped(photos)
    several = sorted((one for group in groups if len(group) > 1 for one in group), key=lambda one: one.path)
    cull_files.write_findings(out, scorer, several, provenance, resume, tell)
    rows = culling.choose_all(groups, cull_files.read_findings(out), Rule(margin=10, floor=5))
    cull_files.write_choices(out, [*(row for group in rows for row in group), *failed])
    return rows, failed


def test_time_camera_and_pixels_are_measured(tmp_path):
    image = np.full((100, 100, 3), 128, np.uint8)
    image[:10], image[10:30] = 255, 0
    path = save(Image.fromarray(image), tmp_path / "a.jpg", "2024:05:06 07:08:09", fraction="25", quality=95)
    facts = measure(path)
    assert facts.camera == "Maker Model 7" and facts.taken % 60 == 9.25
    assert facts.highlights == pytest.approx(0.1, abs=0.01) and facts.shadows == pytest.approx(0.2, abs=0.01)
    again = Facts.from_dict(json.loads(json.dumps(facts.to_dict())))
    assert (again.thumbnail == facts.thumbnail).all() and again.thumbnail.shape == (48, 48)
    assert [getattr(again, key) for key in ("taken", "camera", "sharpness")] == [
        facts.taken,
        facts.camera,
        facts.sharpness,
    ]


def test_time_and_camera_of_a_photo_above_pillows_own_limit_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    facts = measure(save(scene(1), tmp_path / "a.jpg", "2024:05:06 07:08:09"))
    assert facts.camera == "Maker Model 7" and facts.taken


@pytest.mark.skipif(not register_heif(), reason="the extra heif is not installed")
def test_the_first_heic_of_a_process_has_a_time(tmp_path, monkeypatch):
    path = save(scene(1), tmp_path / "a.heic", "2024:05:06 07:08:09")
    monkeypatch.delitem(Image.OPEN, "HEIF")
    facts = measure(path)
    assert facts.taken is not None and facts.camera == "Maker Model 7"


@pytest.mark.parametrize("time", ["0000:00:00 00:00:00", "yesterday", "    :  :     :  :  "])
def test_a_wrong_time_counts_as_none(tmp_path, time):
    facts = measure(save(scene(1), tmp_path / "a.jpg", time))
    assert facts.taken is None and facts.camera == "Maker Model 7"


def test_a_file_without_or_with_damaged_exif_is_measured(tmp_path):
    scene(1).save(tmp_path / "a.png")
    scene(1).save(tmp_path / "b.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff nonsense")
    for name in ("a.png", "b.jpg"):
        assert (measure(tmp_path / name).taken, measure(tmp_path / name).camera) == (None, "")
    (tmp_path / "c.jpg").write_bytes(b"none")
    with pytest.raises(UnreadableImage, match="not a picture"):
        measure(tmp_path / "c.jpg")


def test_a_blurred_shot_is_less_sharp(tmp_path):
    rough = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)).resize((480, 480), 0)
    rough.save(tmp_path / "a.png")
    rough.resize((60, 60), Image.Resampling.BOX).resize((480, 480), Image.Resampling.BICUBIC).save(tmp_path / "b.png")
    assert measure(tmp_path / "a.png").sharpness > 1.5 * measure(tmp_path / "b.png").sharpness
    Image.new("L", (50, 1), 9).save(tmp_path / "c.png")
    assert measure(tmp_path / "c.png").sharpness == 0


def test_moved_and_differently_exposed_shots_are_grouped_and_strangers_are_not():
    shots = [moved(1), moved(2), moved(1, 12), moved(1).point(lambda level: level // 3), moved(3)]
    assert bursts.group_shots([facts_of(shot) for shot in shots]) == [[0, 2, 3], [1], [4]]
    assert bursts.group_shots([]) == []


def test_time_decides_about_half_similar_photos(monkeypatch):
    one, other = moved(1), Image.blend(moved(1), moved(2), 0.62)

    def groups(first, second, camera=CAMERA):
        return len(bursts.group_shots([facts_of(one, first), facts_of(other, second, camera)]))

    assert groups(0.0, bursts.BURST_SECONDS) == 1
    assert groups(0.0, bursts.BURST_SECONDS + 1) == groups(0.0, 1.0, "another") == groups(None, None) == 2
    monkeypatch.setattr(bursts, "WITHOUT_TIME", 0.65)
    assert groups(None, None) == groups(5.0, None) == 1 and groups(0.0, 9e9) == 2


def test_groups_do_not_depend_on_the_order_of_files():
    shots = [facts_of(moved(seed, by), float(seed * 1000 + by)) for seed in range(6) for by in (0, 4, 9)]
    photos = [Photo(f"{number:02}.jpg", 50.0, one) for number, one in enumerate(shots)]
    expected = [[one.path for one in group] for group in culling.grouped(photos)]
    assert len(expected) == 6 and all(len(group) == 3 for group in expected)
    for seed in range(3):
        random.Random(seed).shuffle(photos)
        assert [[one.path for one in group] for group in culling.grouped(photos)] == expected


def test_blocks_of_rows_give_the_same_groups(monkeypatch):
    shots = [facts_of(moved(seed, by)) for by in (0, 6) for seed in range(5)]
    whole = bursts.group_shots(shots)
    monkeypatch.setattr("driqa_jax.data.near_duplicates._ROWS", 3)
    assert bursts.group_shots(shots) == whole == [[seed, seed + 5] for seed in range(5)]


def test_the_best_are_kept_and_the_worst_rejected():
    group = [photo("a", 70), photo("b", 71, sharpness=2.0), photo("c", 71), photo("d", 60), photo("e", 40)]
    rows = choose(group, 3, Rule(keep=2, margin=15))
    assert [(row.path, row.rank, row.choice) for row in rows] == [
        *(("b", 1, "keep"), ("c", 2, "keep"), ("a", 3, ""), ("d", 4, ""), ("e", 5, "reject")),
    ]
    assert {row.group for row in rows} == {3}
    assert rows[4].reasons == ("score 31.0 lower",) and rows[1].reasons == ("nearly equal",)


def test_a_single_photo_is_kept_unless_its_score_is_very_low():
    (row,) = choose([photo("a", 55)], None, Rule())
    assert (row.group, row.rank, row.choice, row.reasons) == (None, 1, "keep", ())
    (row,) = choose([photo("a", 5)], None, Rule(floor=20))
    assert (row.choice, row.reasons) == ("reject", ("very low score",))


def test_a_margin_of_zero_rejects_neither_the_best_nor_a_single_photo():
    rule = Rule(margin=0)
    assert [row.choice for row in choose([photo("a", 55)], None, rule)] == ["keep"]
    assert [row.choice for row in choose([photo("a", 55), photo("b", 50)], 1, rule)] == ["keep", "reject"]


def test_reasons_compare_with_the_best_and_the_best_with_the_others():
    best, soft = photo("best", 80), photo("soft", 60, lens_blur=0.6, white_noise=0.5)
    burnt = photo("burnt", 78, highlights=0.2, gray=180, brighten=0.1)
    rows = {row.path: row for row in choose([soft, burnt, best], 1, Rule())}
    assert rows["soft"].reasons == ("less sharp", "more noise") and rows["soft"].choice == "reject"
    assert rows["burnt"].reasons == ("highlights lost", "overexposed")
    assert rows["burnt"].rank == 2
    assert rows["best"].reasons[:3] == ("sharper", "less noise", "highlights kept")


def test_exposure_findings_outweigh_a_slightly_higher_score():
    plain, burnt = photo("plain", 60), photo("burnt", 63, highlights=0.2, brighten=0.2)
    assert [one.path for one in culling.rank([burnt, plain])] == ["plain", "burnt"]


def test_exposure_counts_under_either_name_and_once():
    plain, burnt = photo("plain", 60), photo("burnt", 63, overexposed=0.2)
    assert culling.merit(burnt) == culling.merit(photo("burnt", 63, brighten=0.2)) == pytest.approx(43)
    assert culling.merit(photo("both", 63, overexposed=0.2, brighten=0.1)) == culling.merit(burnt)
    rows = {row.path: row for row in choose([plain, photo("dark", 62, underexposed=0.2), burnt], 1, Rule())}
    assert rows["plain"].rank == 1
    assert rows["dark"].reasons[0] == "too dark" and rows["burnt"].reasons[0] == "overexposed"


def test_reasons_name_faults_of_cameras_and_damaged_files():
    best, cut, soft = photo("best", 80), photo("cut", 70, truncated_data=0.5), photo("soft", 60, out_of_focus=0.5)
    rows = {row.path: row for row in choose([best, cut, soft], 1, Rule())}
    assert rows["cut"].reasons == ("damaged",) and rows["soft"].reasons == ("less sharp",)


def test_files_have_a_row_for_each_photo(folder, tmp_path):
    rows, failed = cull(folder, tmp_path / "out", FakeScorer())
    assert [[row.path[-6:] for row in group] for group in rows] == [
        ["a1.png", "a2.png"],
        ["b1.png", "b2.png"],
        ["/c.png"],
    ]
    table = list(csv.DictReader((tmp_path / "out" / "choices.csv").read_text().splitlines()))
    assert list(table[0]) == ["path", "group", "rank", "score", "choice", "reasons", "error"]
    assert [row["path"] for row in table][-1].endswith("broken.jpg")
    assert [(row["group"], row["rank"], row["choice"]) for row in table] == [
        *(("1", "1", "keep"), ("1", "2", "reject"), ("2", "1", "keep"), ("2", "2", "reject"), ("", "1", "keep")),
        ("", "", ""),
    ]
    assert table[0]["reasons"] and table[1]["reasons"].startswith("less sharp") and "JPEG" in table[5]["error"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "choices.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [row["path"] for row in table]
    assert lines[1]["reasons"] == table[1]["reasons"].split("; ") and lines[5]["score"] is None
    assert paths_in(folder) == sorted(row["path"] for row in table)


def test_a_killed_run_is_resumed_without_scoring_again(folder, tmp_path):
    whole = tmp_path / "whole"
    cull(folder, whole, FakeScorer())
    for name, rows in (("scores", 3), ("findings", 2)):
        out, first, second = tmp_path / name, FakeScorer(), FakeScorer()

        def stop(result, count, name=name, rows=rows, out=out):
            if count == rows and (out / f".{name}.jsonl.part").exists():
                raise MemoryError  # no handler sees a kill; the files are left as they are

        with pytest.raises(MemoryError):
            cull(folder, out, first, tell=stop)
        with open(out / f".{name}.jsonl.part", "a") as part:
            part.write('{"path": "half a ro')
        cull(folder, out, second, resume=True)
        again = (len(second.scored), len(second.found))
        assert again == ((2, 4) if name == "scores" else (0, 2))
        for file in ("choices.csv", "choices.jsonl", "scores.jsonl", "findings.jsonl"):
            assert (out / file).read_bytes() == (whole / file).read_bytes()


def test_a_resumed_run_refuses_other_photos(folder, tmp_path):
    cull(folder, tmp_path / "out", FakeScorer())
    moved(9).save(folder / "a0.png")
    with pytest.raises(UserError, match="the input has changed"):
        cull(folder, tmp_path / "out", FakeScorer(), resume=True)


def test_scores_of_another_command_are_not_resumed(folder, tmp_path):
    cull(folder, tmp_path, FakeScorer())
    scores = tmp_path / "scores.jsonl"
    scores.write_text(re.sub(r', "facts": {.*?}', "", scores.read_text()))
    with pytest.raises(UserError, match=r"scores.jsonl: was not written by this command; start without --resume"):
        cull(folder, tmp_path, FakeScorer(), resume=True)


def test_photos_may_be_added_at_the_end_of_a_resumed_run(folder, tmp_path):
    out, again = tmp_path / "out", FakeScorer()
    cull(folder, out, FakeScorer())
    moved(3, 5).save(folder / "d.png")  # makes a group with c.png
    moved(1, 5).save(folder / "e.png")
    rows, _ = cull(folder, out, again, resume=True)
    assert [pathlib.Path(path).name for path in again.scored] == ["d.png", "e.png"]
    assert [len(group) for group in rows] == [3, 2, 2] and all(row.reasons for group in rows for row in group)


def test_a_photo_that_vanishes_keeps_its_score(folder, tmp_path):
    class Vanishing(FakeScorer):
        def findings(self, images):
            (folder / "b2.png").unlink()
            yield from super().findings(images)

    rows, _ = cull(folder, tmp_path / "out", Vanishing())
    assert [row.path[-6:] for row in rows[1]] == ["b1.png", "b2.png"] and all(row.score for row in rows[1])
    (bad,) = [line for line in (tmp_path / "out" / "findings.jsonl").read_text().splitlines() if '"error": "' in line]
    assert json.loads(bad)["error"] == "No such file or directory"


def test_few_photos_are_measured_ahead_of_the_scorer(folder, tmp_path):
    """Memory does not grow with the number of photos."""
    measured = []

    class Counting(FakeScorer):
        def stream(self, images):
            for result in super().stream(images):
                measured.append(len(facts))
                yield result

    facts = []
    original = cull_files._measured

    def watched(paths, scorer, queue):
        nonlocal facts
        facts = queue
        return original(paths, scorer, queue)

    for number in range(40):
        moved(100 + number).save(folder / f"many{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cull_files, "_measured", watched)
        cull(folder, tmp_path / "out", Counting())
    assert len(measured) == 46 and max(measured) <= 2


def test_the_region_is_where_shots_differ():
    shots = np.repeat(np.random.default_rng(0).normal(120, 20, (1, 90, 120)).astype(np.float32), 3, axis=0)
    shots[1, 60:75, 20:35] += 80
    shots[2] = shots[2] * 0.5 + 20  # the exposure of the whole does not count
    left, top, right, bottom = differing_region(shots, 1 / 3)
    assert right - left == pytest.approx(30 / 120) and bottom - top == pytest.approx(30 / 90)
    assert left * 120 <= 20 and right * 120 >= 35 and top * 90 <= 60 and bottom * 90 >= 75
    same = differing_region([shots[0], shots[0]], 1 / 3)
    assert same == (45 / 120, 30 / 90, 75 / 120, 60 / 90)
    assert differing_region([shots[0], shots[1][::2, ::2]], 1.0)[3] == 1.0


def test_the_command_writes_everything_and_changes_no_photo(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scorer_module, "load", lambda model, **options: tiny_scorer())
    before = {path: pathlib.Path(path).read_bytes() for path in paths_in(folder)}
    out = tmp_path / "out"
    assert cli.main(["cull", str(folder), "-o", str(out), "--reject-below", "0"]) == 1
    said = capsys.readouterr().err
    assert "broken.jpg: " in said and "2 groups, 1 single photos, 1 failed: 3 keep" in said
    assert sorted(file.name for file in out.iterdir()) == [
        *("choices.csv", "choices.jsonl", "findings.jsonl", "findings.meta.json", "index.html"),
        *("scores.jsonl", "scores.meta.json"),
    ]
    assert {path: pathlib.Path(path).read_bytes() for path in paths_in(folder)} == before
    bytes_before = [(file, file.read_bytes()) for file in sorted(out.iterdir())]
    shuffled = sorted(before, reverse=True) + [str(folder)]
    assert cli.main(["cull", *shuffled, "-o", str(out), "--reject-below", "0", "--resume"]) == 1
    assert [(file, file.read_bytes()) for file in sorted(out.iterdir())] == bytes_before
    assert cli.main(["cull", str(folder), "-o", str(folder / "c.png")]) == 2
    with pytest.raises(SystemExit):
        cli.main(["cull", str(folder), "-o", str(out), "--keep", "0"])


def test_a_raw_photo_and_its_jpeg_are_one_photo_even_by_name(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer_module, "load", lambda model, **options: tiny_scorer())
    moved(4).save(folder / "d.jpg")
    (folder / "d.CR2").write_bytes(b"raw")
    assert cli.main(["cull", str(folder / "d.CR2"), str(folder / "d.jpg"), "-o", str(tmp_path / "out")]) == 0
    (row,) = csv.DictReader((tmp_path / "out" / "choices.csv").read_text().splitlines())
    assert row["path"] == str(folder / "d.jpg")


def test_rejects_are_rated_in_sidecars_unless_a_person_rated_them(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scorer_module, "load", lambda model, **options: tiny_scorer())
    command = ["cull", str(folder), "-o", str(tmp_path / "out"), "--resume", "--reject-below", "100"]
    ours, rated = (sidecar_path(folder / name, "darktable") for name in ("a1.png", "a2.png"))
    rate(ours, 4)
    rated.write_text(re.sub(r'\s*driqa:ourRating="4"', "", ours.read_text()))  # as if a person had given it
    assert cli.main([*command, "--xmp", "darktable", "--dry-run"]) == 1
    assert "rating 4 -> -1" in capsys.readouterr().err
    assert cli.main([*command, "--xmp", "darktable"]) == 1  # broken.jpg fails
    assert f"{rated}: the rating 4 is kept" in capsys.readouterr().err
    with open(tmp_path / "out" / "choices.csv", newline="") as file:
        rejected = [row["path"] for row in csv.DictReader(file) if row["choice"] == "reject"]
    assert len(rejected) > 2
    for path in rejected:
        expected = 4 if sidecar_path(path, "darktable") == rated else -1
        assert read_sidecar(sidecar_path(path, "darktable")).rating == expected
    assert cli.main([*command, "--dry-run"]) == 2


def test_findings_are_those_of_the_explanation(folder):
    scorer = tiny_scorer()
    good, bad = (str(folder / name) for name in ("a1.png", "broken.jpg"))
    found, error = scorer.findings([good, bad])
    assert isinstance(error, UnreadableImage)
    expected = scorer.explain(good, restore=False).degradations
    assert [one.name for one in found] == [one.name for one in expected]
    assert found[0].probability == pytest.approx(expected[0].probability, abs=1e-6)


def test_any_file_name_is_written_as_it_is(folder, tmp_path):
    name = os.fsdecode(b"a\xe9, <b>\n.png")
    os.rename(folder / "a1.png", folder / name)
    rows, failed = cull(folder, tmp_path / "out", FakeScorer())
    assert b"a\xe9, <b>\n.png" in (tmp_path / "out" / "choices.csv").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "out" / "choices.jsonl").read_text().splitlines()]
    assert {line["path"] for line in lines[:2]} == {str(folder / name), str(folder / "a2.png")}
    write_cull_page(tmp_path / "out" / "p.html", rows, failed, {}, 1e6)
    assert "a\ufffd, &lt;b&gt;" in (tmp_path / "out" / "p.html").read_text().replace("?", "\ufffd")
