"""The examination of a score's order, on scores whose results are known beforehand."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data
from tiny_scorer import tiny_scorer

from driqa_jax.cli.examine import _photographs
from driqa_jax.cli.main import build_parser, main
from driqa_jax.data.open import open_source
from driqa_jax.data.split_file import hash_split
from driqa_jax.evaluation import order
from driqa_jax.evaluation.bootstrap import Estimate, estimate
from driqa_jax.evaluation.order import OrderEstimates, OrderScores, examine_order, right_against, right_pairs
from driqa_jax.evaluation.tables import Table, save_table

TYPES = ("white_noise", "jitter")


@pytest.fixture
def few_types(monkeypatch):
    """Two types and one bad restoration, which compile in a moment."""
    monkeypatch.setattr(order, "ORDERED", TYPES)
    monkeypatch.setattr(order, "BADLY_RESTORED", ("halo",))


def photos(side=64):
    places = ((40, 200), (120, 180))
    return {str(y): np.ascontiguousarray(data.astronaut()[y : y + side, x : x + side]) for y, x in places}


def test_only_what_is_worse_the_more_of_it_is_ordered():
    assert len(order.ORDERED) == 17
    assert {"gaussian_blur", "jpeg", "high_sharpen"} <= set(order.ORDERED)
    assert not {"brighten", "contrast_change", "halo", "haze"} & set(order.ORDERED)


def test_a_score_that_knows_the_photograph_is_always_right(few_types):
    def score(pictures):
        clean = pictures[0].astype(float)
        same = [p if p.shape == clean.shape else clean for p in pictures]
        return np.array([100 - np.abs(p - clean).mean() for p in same])

    found = examine_order(score, photos())
    assert found.levels.shape == (2, 5, 2) and found.restored.shape == (1, 4, 2) and found.changes.shape == (4, 2)
    assert (right_pairs(found.levels) == 1).all() and (right_against(found.pristine, found.restored) == 1).all()
    report = OrderEstimates.of(found)
    assert report.order["all"] == Estimate(1.0, (1.0, 1.0), 2) and set(report.order) == {"all", *TYPES}
    assert report.stability["flip"].value > 0 and report.stability["resize to 0.9"].value == 0
    # The levels of one photograph share their noise, so that only its amount differs; photographs do not.
    again = examine_order(score, photos())
    assert (again.levels == found.levels).all()


def test_a_score_that_likes_it_all_or_does_not_look_is_never_right(few_types):
    upside_down = examine_order(lambda pictures: np.arange(len(pictures), dtype=float), photos())
    blind = examine_order(lambda pictures: np.full(len(pictures), 50.0), photos())
    for found in (upside_down, blind):
        assert (right_pairs(found.levels) == 0).all() and (right_against(found.pristine, found.restored) == 0).all()
    assert (blind.changes == 0).all()
    # Behind the pristine picture stand 2 x 5 levels and 4 bad restorations.
    assert (upside_down.changes == np.array([15, 1, 18, 19])[:, None]).all()


def test_a_photograph_that_cannot_be_scored_is_left_out(few_types):
    def score(pictures):
        if (pictures[0] == photos()["120"]).all():
            raise ValueError("the model gave\n nan")
        return np.zeros(len(pictures))

    found = examine_order(score, photos())
    assert found.photos == ("40",) and found.failed == {"120": "the model gave nan"}
    assert OrderEstimates.of(found).order["all"].interval is None


def test_shares_are_those_of_the_pairs():
    scores = np.array([[90, 80], [80, 85], [70, 70], [70, 60], [50, 65.0]])  # (levels, photographs)
    assert right_pairs(scores) == pytest.approx([3 / 4, 2 / 4])
    assert right_against(np.array([75, 75]), scores) == pytest.approx([3 / 5, 3 / 5])


def test_an_estimate_resamples_units_and_leaves_out_what_is_not_defined():
    values = np.array([0.0, 1.0, np.nan, 1.0, 1.0])
    found = estimate(values)
    assert found.value == 0.75 and found.n == 4 and found.interval == (0.25, 1.0)
    assert estimate(np.array([1, 2, 9.0]), np.median).value == 2
    assert estimate(np.array([np.nan])) == Estimate(None, None, 0)
    many = np.random.default_rng(0).normal(3, 1, 400)
    low, high = estimate(many).interval
    assert (high - low) / 2 == pytest.approx(1.96 * many.std() / 20, rel=0.1)


def test_rows_become_a_table_in_each_format(tmp_path):
    rows = [["a_b", 3, Estimate(0.5, (0.25, 0.75), 4)], ["c", 4, Estimate(None)]]
    for kind in ("md", "csv", "tex"):
        save_table(Table("title", ("name", "n", "share"), rows), tmp_path / f"t.{kind}", digits=2)
    expected = "| name | n | share |\n| --- | --- | --- |\n| a_b | 3 | 0.50 [0.25, 0.75] |\n| c | 4 | undefined |\n"
    assert (tmp_path / "t.md").read_text() == expected
    assert (
        tmp_path / "t.csv"
    ).read_text() == "name,n,share,share_low,share_high\na_b,3,0.5,0.25,0.75\nc,4,undefined,,\n"
    assert r"a\_b & 3 & 0.50 {\scriptsize [0.25, 0.75]} \\" in (tmp_path / "t.tex").read_text()


def test_the_figure_has_a_bar_for_each_type():
    rng = np.random.default_rng(0)
    found = OrderScores(
        ("a", "b"), rng.random(2), rng.random((17, 5, 2)), rng.random((3, 4, 2)), rng.random((4, 2)), {}
    )
    figure = order.order_figure(OrderEstimates.of(found), "title")
    assert len(figure.axes[0].patches) == len(figure.axes[0].get_yticks()) == 20


def test_the_command_writes_figures_and_provenance(few_types, tmp_path, monkeypatch, capsys):
    from driqa_jax.inference import scorer

    (tmp_path / "photos").mkdir()
    for i, (name, photo) in enumerate(photos(240).items()):
        Image.fromarray(photo[: 240 - 5 * i]).save(tmp_path / "photos" / f"{name}.png")
    Image.fromarray(np.zeros((30, 400, 3), np.uint8)).save(tmp_path / "photos" / "flat.png")
    monkeypatch.setattr(scorer, "load", lambda model, **options: tiny_scorer())
    command = ["examine", "--order", "--photos", str(tmp_path / "photos"), "-o", str(tmp_path / "out")]
    assert main(command) == 1
    assert "flat.png: 400x30 is smaller than 224 pixels" in capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "order.json").read_text())
    assert sorted(found["photos"]) == ["120.png", "40.png"] and list(found["failed"]) == ["flat.png"]
    # The smaller is 240 x 235.
    assert found["provenance"]["crop"] == 224 and found["provenance"]["sha256"] == tiny_scorer().sha256
    levels = np.array(found["scores"]["levels"])
    assert found["order"]["all"]["value"] == pytest.approx(right_pairs(levels).mean())
    assert (tmp_path / "out" / "order.md").read_text().count("| order |") == 3
    assert Image.open(tmp_path / "out" / "order.png").size[0] > 400
    assert main([*command, "--pairs", "x"]) == 2
    assert "--pairs" in capsys.readouterr().err


def test_a_split_file_says_which_photographs_are_examined(tmp_path):
    lines = ["image,mos"]
    for i in range(12):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{i / 12}")
    table, file = tmp_path / "mos.csv", tmp_path / "split.json"
    table.write_text("\n".join(lines))
    source = open_source("folder", str(table))
    split = hash_split(source, 1)
    split.save(file)
    words = ["examine", "--data", str(table), "--split-file", str(file), "--split", "test", "-o", str(tmp_path)]
    found = _photographs(build_parser().parse_args(words)).column("image_id")
    assigned = split.assigned(source)
    assert 0 < len(found) < 12 and set(found) == set(assigned.column("image_id")[assigned.column("split") == "test"])
