"""The table of a protocol: medians, spread and paired differences of runs whose scores are known; plans; pages."""

import csv
import dataclasses
import io

import ml_collections
import numpy as np
import pytest
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.data.source import Resized
from driqa_jax.data.split_file import Split
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.errors import UserError
from driqa_jax.evaluation import bootstrap, tables
from driqa_jax.evaluation.correlations import srcc
from driqa_jax.protocol.config import default
from driqa_jax.protocol.plan import DataSets, Run, TestSet, make_plan
from driqa_jax.protocol.record import Scores, claim_folder, load_scores, plain_values, save_scores
from driqa_jax.protocol.summary import summarize

DRAWS, COUNT = 60, 50


def made(folder, row, split, seed, noise, constant=False):
    """A run whose predictions are MOS and some noise; the splits hold other pictures."""
    rng = np.random.default_rng([ord(split), seed, int(100 * noise)])
    mos = np.random.default_rng(ord(split)).random(COUNT)
    predicted = np.full(COUNT, 0.5) if constant else mos + noise * rng.standard_normal(COUNT)
    images = np.array([f"{split}{i}.png" for i in range(COUNT)])
    run = Run(
        row,
        seed,
        Split(split, "set", {"kind": "hash"}, {"test": COUNT}, "0"),
        {},
        "",
        (TestSet("set test", "test"),),
        ("last",),
        DRAWS,
    )
    (folder / run.folder).mkdir(parents=True)
    save_scores(folder / run.folder, "set test", Scores(images, mos, np.arange(COUNT) % 5 > 0, {"last": predicted}))
    return run, predicted, mos


def test_medians_intervals_spread_and_paired_differences(tmp_path):
    runs = [made(tmp_path, row, split, seed, noise) for row, noise in (("full", 0.2), ("less", 0.6), ("same", 0.21))
            for split in "abc" for seed in (0, 1)]  # fmt: skip
    found = summarize(tmp_path, [run for run, *_ in runs], "full")
    table = {(whose, pictures): part for whose, pictures, part in found.rows}
    order = ["full", "less", "same", "less - full", "same - full"]
    assert sorted(table) == sorted((whose, f"set test{kind}") for whose in order for kind in ("", ", novel"))
    values = np.array([srcc(p, mos) for run, p, mos in runs if run.row == "full"]).reshape(3, 2)
    full = table["full", "set test"]
    assert full.n == COUNT and full.metrics["srcc"] == np.median(values)
    assert full.spread["srcc"] == pytest.approx(np.median(values, axis=1).std(ddof=1))
    draws = {
        row: [bootstrap.replicates(p, mos, DRAWS)["srcc"] for run, p, mos in runs if run.row == row]
        for row in ("full", "less")
    }
    assert full.intervals["srcc"] == pytest.approx(np.quantile(np.median(draws["full"], axis=0), [0.025, 0.975]))
    gap = table["less - full", "set test"]
    other = np.array([srcc(p, mos) for run, p, mos in runs if run.row == "less"]).reshape(3, 2)
    assert gap.metrics["srcc"] == pytest.approx(np.median(other - values))
    paired = np.median(np.subtract(draws["less"], draws["full"]), axis=0)
    assert gap.intervals["srcc"] == pytest.approx(np.quantile(paired, [0.025, 0.975]))
    assert not gap.within_noise("srcc") and table["same - full", "set test"].within_noise("srcc")
    assert not full.within_noise("srcc")
    assert table["full", "set test, novel"].n == 40
    shown = found.table()
    text = tables.to_markdown(shown)
    assert text.count("within noise") >= 5 and "±" in text
    lines = csv.DictReader(io.StringIO(tables.to_csv(shown)))
    rows = {row["scores"]: row for row in lines if row["pictures"] == "set test"}
    assert float(rows["full"]["srcc_spread"]) == full.spread["srcc"]
    assert (
        "srcc" in rows["same - full"]["within_noise"].split()
        and "srcc" not in rows["less - full"]["within_noise"].split()
    )
    assert r"$\pm$" in tables.to_latex(shown)


def test_a_constant_prediction_is_undefined_in_median_spread_and_difference(tmp_path):
    runs = [made(tmp_path, "full", split, 0, 0.2)[0] for split in "ab"]
    runs += [made(tmp_path, "flat", split, 0, 0.2, constant=split == "b")[0] for split in "ab"]
    table = {(whose, pictures): part for whose, pictures, part in summarize(tmp_path, runs, "full").rows}
    for key in (("flat", "set test"), ("flat - full", "set test")):
        part = table[key]
        assert part.metrics["srcc"] is None is part.spread["srcc"] and part.intervals["srcc"] is None
        assert part.metrics["rmse"] is not None
    assert "| undefined |" in tables.to_markdown(summarize(tmp_path, runs, "full").table())


def test_differences_want_the_same_pictures_and_the_first_row(tmp_path):
    runs = [made(tmp_path, "full", "a", 0, 0.2)[0], made(tmp_path, "less", "b", 0, 0.3)[0]]
    assert not any(" - " in whose for whose, *_ in summarize(tmp_path, runs, "full").rows)
    assert not any(" - " in whose for whose, *_ in summarize(tmp_path, runs, "failed").rows)


def configured(rows=None, across=None, **changes):
    config = default(rows or {"full": {}}, across or {})
    config.base.data.kind = "fake"
    config.splits.kind = "hash"
    config.update_from_flattened_dict(changes)
    return ml_collections.FrozenConfigDict(config)


def test_a_plan_is_rows_by_splits_by_seeds(tmp_path):
    across = {
        "other": {"kind": "fake", "fake_count": 12},
        "koniq10k": {},
        "itself": {"kind": "fake", "name": "biq2021"},
    }
    rows = {"full": {}, "a lower rate": {"optim.lr": 1e-4, "data.name": "biq2021"}, "lite": {"weights": "lite"}}
    runs = make_plan(configured(rows, across, **{"splits.numbers": (0, 3), "seeds": (0, 1)}), DataSets())
    assert [(run.row, run.split.id, run.seed) for run in runs] == [
        *((row, f"fake hash {k}", seed) for row in ("full", "a lower rate") for k in (0, 3) for seed in (0, 1)),
        *(("lite", f"fake hash {k}", 0) for k in (0, 3)),
    ]
    assert [test.name for test in runs[0].tests] == ["fake test", "other"]  # no set without a path, nor that trained on
    assert runs[0].config["data"]["train"] == "train" and runs[0].config["data"]["val"] == "val"
    assert runs[5].config["optim"]["lr"] == 1e-4 and runs[5].config["seed"] == runs[5].config["data"]["fold"] == 1
    assert str(runs[4].folder) == "runs/a_lower_rate/fake_hash_0/seed0"
    official = make_plan(configured(**{"splits.kind": "official"}), DataSets())
    assert [run.config["data"]["val"] for run in official] == ["train/val"]
    table = tmp_path / "ratings.csv"
    rated = [f"{k}.png,{k / 30},{'abc'[k % 3]},{'train' if k < 24 else 'test'}\n" for k in range(30)]
    table.write_text("image,mos,subset,split\n" + "".join(rated))
    for name in range(30):
        (tmp_path / f"{name}.png").touch()
    changes = {"base.data.kind": "folder", "base.data.path": str(table), "splits.kind": "subset", "splits.of": "train"}
    held_out = make_plan(configured(**changes), DataSets())
    assert [(run.split.rule["subset"], run.split.counts) for run in held_out] == [
        (subset, {"train": 14, "val": 2, "test": 8}) for subset in "abc"
    ]
    two = make_plan(configured(**changes, **{"splits.subsets": ("c", "a")}), DataSets())
    assert [run.split.id for run in two] == ["biq2021 train without c", "biq2021 train without a"]
    assert all(
        Run.from_dict(plain_values(run)) == dataclasses.replace(run, config=plain_values(run)["config"]) for run in runs
    )


@pytest.mark.parametrize(
    "rows, changes, said",
    [
        (
            {"full": {"loss.rs_wieght": 0.0}},
            {},
            r"rows, 'full': loss\.rs_wieght: no such key; the nearest is loss\.rs_weight",
        ),
        ({"full": {"loss.rs_weight": "much"}}, {}, "rows, 'full': loss.rs_weight=much: expected float"),
        ({"full": {"stage": "pretrain"}}, {}, "the stage 'pretrain' predicts no MOS"),
        ({"a/b": {}, "a b": {}}, {}, "two runs would use the folder runs/a_b"),
        (None, {"checkpoints": ("best_on_test",)}, "never use it alone"),
        (None, {"checkpoints": ("best_on_test", "last")}, "never use it alone"),
        (None, {"checkpoints": ("last", "best_on_test"), "test": ""}, "needs config.test"),
        (None, {"checkpoints": ("first",)}, "must be one of last, val_selected, best_on_test, got 'first'"),
        (None, {"splits.kind": "random"}, "must be one of official, hash, subset, published, files, got 'random'"),
        (None, {"test": ""}, "nothing to test on"),
        (None, {"base.data.kind": "folder", "base.data.path": "absent.csv"}, "absent.csv: no such file"),
    ],
)
def test_what_is_no_protocol_is_refused(rows, changes, said):
    with pytest.raises(UserError, match=said):
        make_plan(configured(rows, **changes), DataSets())


def test_another_configuration_is_refused_by_its_keys_but_not_another_place(tmp_path):
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
        (tmp_path / f"{name}.csv").write_text("image,mos\none.png,0.5\n")
    across = {"other": {"kind": "folder", "path": str(tmp_path / "a.csv")}}
    (run,) = make_plan(configured(across=across), DataSets())
    claim_folder(run, tmp_path / "run")
    (moved,) = make_plan(
        configured(across={"other": {"kind": "folder", "path": str(tmp_path / "b.csv")}}, **{"base.log_every": 9}),
        DataSets(),
    )
    claim_folder(moved, tmp_path / "run")
    changes = {"base.optim.lr": 1.0, "bootstrap": 7, "splits.test": 0.3}
    (changed,) = make_plan(configured(across=across, **changes), DataSets())
    with pytest.raises(UserError, match=r"differs in bootstrap, config\.optim\.lr, split\.sha256\)"):
        claim_folder(changed, tmp_path / "run")


def test_scores_return_to_the_last_digit(tmp_path):
    values = np.random.default_rng(0).random((3, 7))
    images = np.array([f'odd, "name" {i}.png' for i in range(7)])
    save_scores(
        tmp_path, "set test", Scores(images, values[0], values[1] > 0.5, {"last": values[1], "val_selected": values[2]})
    )
    found = load_scores(tmp_path, "set test")
    assert found.image.tolist() == images.tolist() and (found.novel == (values[1] > 0.5)).all()
    for one, two in (
        (found.mos, values[0]),
        (found.predicted["last"], values[1]),
        (found.predicted["val_selected"], values[2]),
    ):
        np.testing.assert_array_equal(one, two)


def test_pictures_are_brought_to_one_height():
    source = FakeSource(4, size=40)
    resized = Resized(source, 96)
    assert resized.name == source.name and resized.column("image_id").tolist() == source.column("image_id").tolist()
    expected = Image.fromarray(decode(source.encoded(2))).resize((96, 96), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(decode(resized.encoded(2)), np.asarray(expected))
