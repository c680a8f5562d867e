"""Bootstrap figures equal scipy's on the very same resamples; differences are paired; tables and figures say so."""

import csv
import io
import json

import numpy as np
import pytest
import scipy.stats

from driqa_jax.cli import main as cli
from driqa_jax.data.csv_source import read_scores
from driqa_jax.errors import DataError, UserError
from driqa_jax.evaluation import bootstrap, correlations, tables
from driqa_jax.evaluation.figures import draw_bars, draw_scatter, save_figure
from driqa_jax.evaluation.report import METRICS, Report, difference, make_report, measure


def rated(n=60, seed=0, noise=0.25):
    """Predictions and scores with many ties."""
    rng = np.random.default_rng(seed)
    mos = rng.integers(0, 9, n) / 8
    return np.round(mos + rng.normal(0, noise, n), 1), mos


def resamples(n, draws, seed):
    """The drawn pictures, spelt out."""
    [counts] = bootstrap._counts(n, draws, seed)
    return [np.repeat(np.arange(n), row.astype(int)) for row in counts]


def test_each_replicate_equals_scipy_on_the_resample_spelt_out():
    x, y = rated()
    found = bootstrap.replicates(x, y, draws=20, seed=3)
    mapped = correlations.logistic(x, *correlations.fit_logistic(x, y))
    for k, rows in enumerate(resamples(60, 20, 3)):
        assert len(rows) == 60 and found["srcc"][k] == pytest.approx(
            scipy.stats.spearmanr(x[rows], y[rows])[0], abs=1e-12
        )
        assert found["krcc"][k] == pytest.approx(scipy.stats.kendalltau(x[rows], y[rows])[0], abs=1e-12)
        assert found["plcc"][k] == pytest.approx(scipy.stats.pearsonr(x[rows], y[rows])[0], abs=1e-12)
        assert found["plcc_fitted"][k] == pytest.approx(scipy.stats.pearsonr(mapped[rows], y[rows])[0], abs=1e-12)
        assert found["rmse"][k] == pytest.approx(np.sqrt(np.mean((x[rows] - y[rows]) ** 2)), abs=1e-12)


def test_blocks_of_pairs_and_of_draws_change_nothing_but_the_draws_order(monkeypatch):
    x, y = rated(50)
    whole = bootstrap.replicates(x, y, draws=12)
    monkeypatch.setattr(bootstrap, "_PAIRS", 7)
    np.testing.assert_array_equal(bootstrap.replicates(x, y, draws=12)["krcc"], whole["krcc"])
    monkeypatch.setattr(bootstrap, "_BLOCK", 250)  # five draws at once
    parted = bootstrap.replicates(x, y, draws=12)
    assert parted["srcc"].shape == (12,) and [len(c) for c in bootstrap._counts(50, 12, 0)] == [5, 5, 2]
    np.testing.assert_allclose(parted["srcc"][:5], whole["srcc"][:5])


def test_the_interval_covers_what_it_should_and_narrows_as_a_root():
    truth = scipy.stats.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]])
    held, widths = 0, []
    for seed in range(60):
        x, y = truth.rvs(100, random_state=seed).T
        low, high = bootstrap.intervals(bootstrap.replicates(x, y, 200, seed))["plcc"]
        held += low <= 0.7 <= high
        widths.append(high - low)
    assert 50 <= held <= 60
    x, y = truth.rvs(1600, random_state=1).T
    low, high = bootstrap.intervals(bootstrap.replicates(x, y, 200))["plcc"]
    assert (high - low) / np.mean(widths) == pytest.approx(0.25, abs=0.06)


def test_holding_the_logistic_is_as_good_as_refitting_it():
    x, y = rated(200, seed=1)
    refitted = [correlations.plcc_fitted(x[rows], y[rows]) for rows in resamples(200, 60, 0)]
    held = bootstrap.replicates(x, y, 60)["plcc_fitted"]
    assert np.abs(held - refitted).max() < 0.01 and np.abs(np.mean(held) - np.mean(refitted)) < 0.003


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    x, y = rated()
    first, again, other = (measure(x, y, 50, seed).intervals for seed in (1, 1, 2))
    assert first == again != other


def test_what_is_not_defined_on_a_resample_has_no_interval():
    x, y = np.array([0.1, 0.1, 0.9]), np.array([0.2, 0.3, 0.8])
    found = bootstrap.replicates(x, y, 200)
    assert np.isnan(found["srcc"]).any() and np.isfinite(found["rmse"]).all()
    part = measure(x, y, 200)
    assert part.metrics["srcc"] is not None and part.intervals["srcc"] is None and part.intervals["rmse"] is not None
    constant = measure(np.full(9, 0.1 + 0.2), np.arange(9) / 9, 50)
    assert constant.metrics["srcc"] is None is constant.intervals["srcc"]


def test_a_difference_is_paired():
    x, y = rated(120)
    better = np.round(0.5 * x + 0.5 * y, 3)
    gap = difference(better, x, y, draws=200)
    assert gap.metrics["srcc"] == pytest.approx(correlations.srcc(better, y) - correlations.srcc(x, y))
    low, high = gap.intervals["srcc"]
    assert 0 < low < gap.metrics["srcc"] < high
    one, two = measure(better, y, 200).intervals["srcc"], measure(x, y, 200).intervals["srcc"]
    assert high - low < (one[1] - one[0]) + (two[1] - two[0])
    same = difference(x, x, y, draws=50)
    assert all(value == 0 for value in same.metrics.values()) and set(same.intervals.values()) == {(0.0, 0.0)}


@pytest.fixture
def report():
    x, y = rated(80)
    kinds = np.array(["blur", "noise_1", "", "jpeg"] * 20)
    others = {"niqe": -10 * x + 3, "flat": np.zeros(80)}
    return make_report(x.clip(0, 1), y, "set_1", "test", {"model": "lite"}, degradation=kinds, others=others, draws=40)


def test_a_report_refuses_arrays_of_other_shapes():
    x, y = rated(6)
    with pytest.raises(ValueError, match=r"prediction has the shape \(5,\), mos \(6,\)"):
        make_report(x[:5], y, "d", "all", {})


def test_a_report_holds_degradations_other_metrics_and_differences_and_returns_from_json(report):
    assert {name: part.n for name, part in report.parts.items()} == {
        "degradation: blur": 20,
        "degradation: jpeg": 20,
        "degradation: noise_1": 20,
    }
    assert report.others["niqe"]["all"].metrics["srcc"] < -0.5
    assert report.others["niqe"]["all"].metrics["rmse"] is None is report.others["niqe"]["all"].intervals["rmse"]
    assert report.others["flat"]["all"].metrics["srcc"] is None is report.differences["flat"]["all"].metrics["srcc"]
    gap = report.differences["niqe"]["degradation: blur"]
    assert (
        gap.metrics["plcc"]
        == report.parts["degradation: blur"].metrics["plcc"]
        - report.others["niqe"]["degradation: blur"].metrics["plcc"]
    )
    assert Report.from_dict(json.loads(report.to_json())) == report
    old = {
        key: value
        for key, value in json.loads(report.to_json()).items()
        if key not in ("others", "differences", "intervals")
    }
    assert Report.from_dict(json.loads(json.dumps(old))).others == {}


def test_tables_hold_every_row_in_every_format(report, tmp_path):
    rows = list(report.rows())
    assert [whose for whose, _, _ in rows] == sum(
        ([name] * 4 for name in ("lite", "niqe", "flat", "lite - niqe", "lite - flat")), []
    )
    for ending in ("md", "csv", "tex"):
        tables.save_table(report.table(), tmp_path / f"t.{ending}")
    lines = (tmp_path / "t.md").read_text().splitlines()
    assert len(lines) == 2 + 20 and lines[0].startswith("| scores | pictures | n | SRCC |")
    low, high = report.intervals["srcc"]
    assert lines[2].startswith(f"| lite | all | 80 | {report.metrics['srcc']:.3f} [{low:.3f}, {high:.3f}] |")
    with (tmp_path / "t.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert len(cells) == 20 and float(cells[0]["srcc"]) == report.metrics["srcc"] and float(cells[0]["srcc_low"]) == low
    assert cells[8]["srcc"] == "undefined" == cells[8]["srcc_low"] and cells[8]["scores"] == "flat"
    latex = (tmp_path / "t.tex").read_text()
    assert (
        r"degradation: noise\_1" in latex
        and latex.count(r"\\") == 21
        and latex.startswith(r"\begin{tabular}{llrccccc}")
    )
    from rich.console import Console

    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(tables.to_terminal(report.table(), digits=4))
    assert f"{report.metrics['krcc']:.4f}" in console.export_text()
    with pytest.raises(UserError, match=r"the extension must be one of \.md, \.csv, \.tex"):
        tables.save_table(report.table(), tmp_path / "t.doc")


def test_figures_are_the_same_bytes_each_time(report, tmp_path):
    x, y = rated(80)
    for number in range(2):
        save_figure(draw_scatter(x, y, "t"), tmp_path / f"scatter{number}.png")
        save_figure(draw_bars(report), tmp_path / f"bars{number}.svg")
    assert (tmp_path / "scatter0.png").read_bytes() == (tmp_path / "scatter1.png").read_bytes()
    assert (tmp_path / "bars0.svg").read_bytes() == (tmp_path / "bars1.svg").read_bytes()
    axes = draw_bars(report).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "all (80)",
        "blur (20)",
        "jpeg (20)",
        "noise_1 (20)",
    ]
    assert [bar.get_width() for bar in axes.patches] == [
        report.metrics["srcc"],
        *(p.metrics["srcc"] for p in report.parts.values()),
    ]
    assert draw_bars(make_report(x, y, "d", "all", {})) is None
    assert len(draw_scatter(np.full(80, 0.5), y, "no fit").axes[0].lines) == 0


def test_other_scores_are_found_by_id_or_by_the_last_part_of_the_path(tmp_path):
    file = tmp_path / "other.csv"
    file.write_text("path,score,error\n/far/away/b.png,0.5,\nx/a.png,0.25,\nunknown.png,,damaged\n")
    assert read_scores(file, ["x/a.png", "y/b.png"]).tolist() == [0.25, 0.5]
    file.write_text("path,score\nx/a.png,1e-3\n")
    with pytest.raises(DataError, match="has no score of 'y/b.png', nor of 0 others of 2"):
        read_scores(file, ["x/a.png", "y/b.png"])


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("image,score\na.png,nan\n", 2, "the score of 'a.png' is nan"),
        ("image,score\na.png,\n", 2, "the score '' of 'a.png' is not a number"),
        ("image,score\na.png,1\nz/a.png,2\n", 3, "'z/a.png' is already on line 2"),
        ("image,score\na.png,1\n", None, "has no score of 'b.png'"),
        ("", 1, "is empty"),
    ],
)
def test_every_defect_of_other_scores_is_named_by_file_and_line(tmp_path, text, line, message):
    file = tmp_path / "other.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_scores(file, ["a.png", "b.png"])
    assert (caught.value.file, caught.value.line) == (str(file), line)


def test_evaluate_without_a_model_compares_files_of_scores(tmp_path, capsys):
    """The command over the generated set; no network runs."""
    from driqa_jax.data.open import open_source
    from driqa_jax.data.splits import select

    part = select(open_source("fake"), "test")
    names, mos = part.column("image_id"), part.column("mos")
    rng = np.random.default_rng(0)
    for name, sign, noise in (("good", 1, 0.05), ("bad", -40, 0.5)):
        lines = [f"{i},{sign * (y + rng.normal(0, noise))}\n" for i, y in zip(names, mos, strict=True)]
        (tmp_path / f"{name}.csv").write_text("image,score\n" + "".join(lines))
    words = ["evaluate", "--model", "none", "--data", "fake", "--scores", str(tmp_path / "good.csv")]
    words += ["--scores-lower", str(tmp_path / "bad.csv"), "--bootstrap", "50", "-o", str(tmp_path / "r.json")]
    words += [
        "--table",
        str(tmp_path / "t.md"),
        "--figures",
        str(tmp_path / "f"),
        "--per-image",
        str(tmp_path / "p.csv"),
    ]
    assert cli.main(words) == 0
    report = Report.from_dict(json.loads((tmp_path / "r.json").read_text()))
    assert report.n == len(part) == 12 and report.provenance["model"] == "good"
    assert report.metrics["srcc"] > 0.9 and report.others["bad"]["all"].metrics["srcc"] > 0
    assert (
        report.differences["bad"]["all"].metrics["srcc"]
        == report.metrics["srcc"] - report.others["bad"]["all"].metrics["srcc"]
    )
    assert {file.name for file in (tmp_path / "f").iterdir()} == {"scatter.png", "bars.png"}
    assert (tmp_path / "t.md").read_text() == tables.to_markdown(report.table())
    again = read_scores(tmp_path / "p.csv", names.tolist())
    assert correlations.srcc(again, mos) == report.metrics["srcc"]
    assert "good - bad" in capsys.readouterr().out
    assert cli.main(["evaluate", "--model", "none", "--data", "fake"]) == 2
    assert "give the scores to evaluate" in capsys.readouterr().err
    assert set(METRICS) == set(report.metrics)
