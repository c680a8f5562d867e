"""What stands out, in words: groups, places and strengths by hand, and the scoring pass against the model."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from fake_model import METADATA as FAKE
from fake_model import FakeModel, fake_params, picture, pictures
from PIL import Image
from test_deduction import METADATA as DEDUCTION
from test_deduction import built
from tiny_model import random_params, tiny
from tiny_scorer import METADATA

from driqa_jax.checkpoints.weights import bundled_files, load_metadata
from driqa_jax.cli import main as cli
from driqa_jax.data.views import STRIDE, ViewRule, geometry, make_view
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.inference.findings import GROUPS, Tiles, codes, find_faults, group_of, place
from driqa_jax.inference.program import seen
from driqa_jax.inference.scorer import Result, Scorer
from driqa_jax.reports.meaning import Meaning

NEW = (
    *("underexposed", "overexposed", "out_of_focus", "camera_shake", "camera_noise", "flare_haze", "color_cast"),
    *("truncated_data", "wrong_blocks", "interlace_combing", "dead_stripe"),
)
TYPES = ("lens_blur", "motion_blur", "white_noise", "jpeg", "darken", "halo", "never_heard_of")


def boxes(rows, columns=None, height=3000, width=4000):
    return geometry(height, width, ViewRule(tiles=rows * (columns or rows))).boxes


# ------------------------------------------------------------------------------------------------------------- groups
def test_every_type_has_exactly_one_group():
    placed = [name for kinds in GROUPS.values() for names in kinds.values() for name in names]
    assert len(placed) == len(set(placed))
    for source in (NAMES, load_metadata(bundled_files()["lite"])["degradations"], NEW):
        assert set(source) <= set(placed), sorted(set(source) - set(placed))
    assert group_of("lens_blur") == ("blur", "out of focus") and group_of("camera_shake") == ("blur", "camera shake")
    assert group_of("never_heard_of") == ("never_heard_of", "never heard of")


def test_a_group_has_its_most_prominent_type_and_at_most_three_are_shown():
    prominence = np.array([0.6, 0.7, 0.9, 0.49, 0.5, 0.8, 0.55])
    strength = np.array([0.9, 0.59, 0.29, 1.0, 1.0, 0.3, 1.0])
    noise, processing, blur = find_faults(TYPES, prominence, strength)
    assert (noise.words, noise.probability, noise.visible, noise.where) == ("noise", 0.9, "faint", "")
    assert (processing.words, processing.visible, processing.details) == ("over-processed", "clear", "clear")
    assert (blur.words, blur.probability, blur.visible) == ("camera shake", 0.7, "clear")
    assert blur.types == ("motion_blur", "lens_blur") and blur.group == "blur"
    assert json.loads(json.dumps(blur.to_dict()))["types"] == ["motion_blur", "lens_blur"]
    assert codes(TYPES, prominence) == ("noise", "processing", "blur")
    assert [one.words for one in find_faults(TYPES, prominence, strength, threshold=0.9)] == ["noise"]
    assert find_faults(TYPES, np.full(7, 0.499), strength) == () == codes(TYPES, np.full(7, 0.499))
    # Many types of one group that are each improbable do not add up.
    assert codes(GROUPS["noise"]["noise"], np.full(6, 0.4)) == ()


def test_place_and_strength_are_those_of_the_tiles_that_carry_a_finding():
    prominence, strength = np.zeros((36, 7)), np.zeros((36, 7))
    upper_left = [0, 1, 6, 7]
    prominence[upper_left, 1], strength[upper_left, 1] = 0.9, 0.7
    prominence[:, 2], strength[:, 2] = 0.6, 0.4
    tiles = Tiles(boxes(6), prominence, strength)
    noise, blur = find_faults(TYPES, np.array([0, 0.55, 0.6, 0, 0, 0, 0]), np.full(7, 0.1), tiles)
    assert (noise.details, blur.details) == ("clear, everywhere", "strong, upper left")


@pytest.mark.parametrize(
    ("grid", "marks", "words"),
    [
        (6, [0], "upper left"),
        (6, [5, 10, 11], "upper right"),
        (6, [14, 15, 20, 21], "center"),
        (6, [7, 8, 9, 10, 13, 16, 19, 22, 14, 15, 20, 21, 25, 26, 27, 28], "center"),
        (6, range(18), "upper half"),
        (6, range(18, 34), "lower half"),
        (6, [6 * y + x for y in range(6) for x in (3, 4, 5)], "right half"),
        (6, [*range(6), *range(30, 36)], "edges"),
        (6, range(22), "everywhere"),
        (6, [0, 14, 21, 35], "in places"),
        (3, [4], "center"),
        (2, [3], "lower right"),
        (2, [0, 1], "upper half"),
        (2, [0, 2], "left half"),
        (2, [0, 3], "in places"),
        (2, [0, 1, 2], "everywhere"),
        (1, [0], "everywhere"),
    ],
)
def test_places_have_words(grid, marks, words):
    carry = np.zeros(grid * grid, bool)
    carry[list(marks)] = True
    for size in ((3000, 4000), (700, 500)):
        assert place(boxes(grid, None, *size), carry) == words


def test_a_photo_smaller_than_a_tile_is_meant_everywhere():
    assert place(boxes(2, None, 90, 120), np.ones(4, bool)) == "everywhere"


# ------------------------------------------------------------------------------------------------------ scoring pass
@pytest.fixture(scope="module", params=[pytest.param("interaction", marks=pytest.mark.long), "deduction"])
def scorers(request):
    """One without and one with reasons; the first form averages with the mirror image."""
    form = request.param
    net = tiny(ml_collections.ConfigDict(METADATA["config"])) if form == "interaction" else built()
    metadata, effort = (METADATA, "accurate") if form == "interaction" else (DEDUCTION, "default")
    params = random_params(net)
    return [Scorer(net, params, metadata, effort=effort, reasons=reasons) for reasons in (False, True)]


def vectors_of(scorer, tiles):
    """(K, C) of tiles (K, H, W, 3) uint8."""
    run = jax.jit(
        lambda params, tiles: scorer.model.apply({"params": params}, {"tiles": tiles}, method="read_degradation")
    )
    return run(scorer.params, tiles[None] / np.float32(255))["vector"][0]


def test_reasons_are_what_the_model_sees_and_change_no_bit_of_a_prediction(scorers):
    plain, naming = scorers
    images = [picture(70, 90, 1), picture(64, 64, 2)]
    for (a, _), (b, _) in zip(plain.predict_parts(images), naming.predict_parts(images), strict=True):
        np.testing.assert_array_equal(a, b)
    for image, before, after in zip(images, plain.stream(images), naming.stream(images), strict=True):
        assert before.reasons is None and (before.score, before.uncertainty) == (after.score, after.uncertainty)
        _, out = plain.apply(image[None] / np.float32(255))
        expected = out["visibility"] if "visibility" in out else jax.nn.sigmoid(out["degradation_logits"])
        if "visibility" not in out:
            vector = vectors_of(plain, make_view(image, plain.rule)["tiles"])
            prominence, strength = seen(plain.params, vector[None])
            np.testing.assert_allclose(prominence, expected, atol=1e-4)
            np.testing.assert_allclose(strength, out["severity"], atol=1e-4)
        assert after.reasons == codes(plain.degradations, np.asarray(expected[0]))


def test_an_explanation_says_what_each_part_shows(scorers):
    scorer, image = scorers[0], picture(70, 90, 1)
    found = scorer.explain(image, restore=False)
    tiles = max(scorer.rule.tiles, scorer.model.explained_tiles)
    view = make_view(image, dataclasses.replace(scorer.rule, tiles=tiles))
    batch = {key: value[None] for key, value in view.items()}
    batch |= {key: batch[key] / np.float32(255) for key in ("whole", "tiles")}
    _, out = scorer.model.apply({"params": scorer.params}, *batch.values())
    if "drops" in out:  # the cells of the map
        rows, columns = view["valid"] // STRIDE
        expected = (out[name][0, :rows, :columns].reshape(rows * columns, -1) for name in ("cell_visibility", "drops"))
        y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1)
        boxes = np.stack([y / rows, x / columns, (y + 1) / rows, (x + 1) / columns], axis=1)
    else:
        expected = seen(scorer.params, vectors_of(scorer, view["tiles"])[:, None])
        boxes = view["tile_boxes"]
    np.testing.assert_allclose(found.tiles.boxes, boxes)
    for shown, wanted in zip((found.tiles.prominence, found.tiles.strength), expected, strict=True):
        np.testing.assert_allclose(shown, wanted, atol=1e-4)
    faults = found.faults(0.0)
    assert {fault.where for fault in faults} == {"everywhere"} and len(faults) == min(3, len(found.types))
    said = found.to_dict(0.0)
    assert json.loads(json.dumps(said)) == said
    assert [one["group"] for one in said["findings"]] == [fault.group for fault in faults]
    assert found.to_dict(1.0)["findings"] == [] and len(said["degradations"]) == 3


# --------------------------------------------------------------------------------------------------- score --reasons
class NamingModel(FakeModel):
    """Sure of its first type in each image; it has no stages."""

    def apply(self, *args, **options):
        mos, out = super().apply(*args, **options)
        return mos, {**out, "degradation_logits": jnp.tile(jnp.array([[2.0, -2.0]]), (len(mos), 1))}


def fake(names=("lens_blur", "white_noise"), **options):
    return Scorer(NamingModel(), fake_params(), {**FAKE, "degradations": names}, name="fake", **options)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda name, runtime, **options: fake(**options))
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(pictures()[:3]):
        Image.fromarray(image).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"")
    return folder


def test_reasons_are_a_column_only_with_the_option(photos, tmp_path, capsys):
    plain, csv, lines = (tmp_path / name for name in ("plain.csv", "with.csv", "with.jsonl"))
    assert cli.main(["score", str(photos), "-o", str(plain)]) == 1
    assert cli.main(["score", str(photos), "-o", str(csv), "--reasons"]) == 1
    assert cli.main(["score", str(photos), "-o", str(lines), "--reasons"]) == 1
    before, after = plain.read_text().splitlines(), csv.read_text().splitlines()
    assert before[0] == "path,score,uncertainty,error" and after[0] == f"{before[0]},reasons"
    # A failed image has no reasons.
    assert after[1:] == [f"{row},blur" if "broken" not in row else f"{row}," for row in before[1:]]
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["reasons"] for row in rows] == ["blur", "blur", "blur", None]
    whole = csv.read_bytes()
    csv.write_text("\n".join(after[:2]) + "\n")
    assert cli.main(["score", str(photos), "-o", str(csv), "--resume", "--reasons"]) == 1 and csv.read_bytes() == whole
    for file, more in ((csv, []), (plain, ["--reasons"])):
        capsys.readouterr()
        assert cli.main(["score", str(photos), "-o", str(file), "--resume", *more]) == 2
        assert "columns" in capsys.readouterr().err


def test_the_cell_is_empty_where_nothing_stands_out_and_absent_from_other_rows():
    meaning = Meaning(show_reasons=True)
    rows = [Result("a", 50.0, reasons=reasons) for reasons in ((), ("blur", "noise"))]
    assert [meaning.annotate(row).extra for row in rows] == [{"reasons": ""}, {"reasons": "blur;noise"}]
    assert Meaning().annotate(rows[1]).extra == {}
    with pytest.raises(UserError, match="no names of degradations"):
        fake(names=(), reasons=True)


def test_the_page_lists_every_group_and_its_words(root):
    page = (root / "docs" / "SCORE.md").read_text()
    for code, kinds in GROUPS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{code}` |")]
        assert all(words in row for words in kinds)
