"""Splits as files: stable, never parting a reference, refused where the set has changed; published ones as they are."""

import json

import numpy as np
import pytest

from driqa_jax.cli import main as cli
from driqa_jax.data.open import open_source
from driqa_jax.data.source import Source
from driqa_jax.data.split_file import PARTS, Split, hash_split, official_split, published_split, subset_split
from driqa_jax.data.splits import require_separate_contents, select
from driqa_jax.errors import DataError


class Labels(Source):
    """A source of labels alone: six pictures of each of ten references."""

    def __init__(self, splits="train", groups=None, references=True, name="set"):
        ids = [f"i{ref:02d}_{k}.bmp" for ref in range(10) for k in range(6)]
        names = [image[:3] for image in ids]
        super().__init__(
            name,
            np.linspace(0, 1, 60),
            image_id=ids,
            group=names if groups is None else groups,
            reference=names if references else [""] * 60,
            subset=[""] * 60,
            split=[splits] * 60 if isinstance(splits, str) else splits,
            dataset=[name] * 60,
            row=range(60),
        )

    def encoded(self, i):
        raise AssertionError("a split looks at no picture")


def members(source):
    return {part: set(source.column("image_id")[source.column("split") == part]) for part in (*PARTS, "")}


def test_a_hash_split_keeps_references_together_and_never_moves():
    source = Labels()
    split = hash_split(source, 0)
    assert split.counts == {"train": 42, "val": 6, "test": 12} and split.id == "set hash 0" and not split.official
    found = members(split.assigned(source))
    references = {part: {name[:3] for name in names} for part, names in found.items()}
    # What these names hash to, for ever: were it to move, results would no longer be comparable.
    assert references == {
        "train": REFERENCES - {"i01", "i02", "i08"},
        "val": {"i02"},
        "test": {"i01", "i08"},
        "": set(),
    }
    others = [members(hash_split(source, k).assigned(source))["test"] for k in range(10)]
    assert len({frozenset(names) for names in others}) >= 8


REFERENCES = {f"i{k:02d}" for k in range(10)}


def test_a_hash_split_within_a_part_leaves_all_others_out(tmp_path):
    splits = ["test" if k < 18 else "train" for k in range(60)]
    source = Labels(splits)
    split = hash_split(source, 0, of="train")
    assert split.id == "set train hash 0" and sum(split.counts.values()) == 42
    found = members(split.assigned(source))
    assert found[""] == set(source.column("image_id")[:18])
    # Drawn as if the others were not there, so they have no say in it.
    alone = select(source, "train")
    assert {**found, "": set()} == members(hash_split(alone, 0).assigned(alone))
    split.save(tmp_path / "s.json")
    assert members(Split.load(tmp_path / "s.json").assigned(source)) == found
    with pytest.raises(DataError, match="has no split 'fit'; its splits are test, train"):
        hash_split(source, 0, of="fit")


def test_a_subset_held_out_takes_its_scenes_with_it(tmp_path):
    source = Labels(["test" if k < 6 else "train" for k in range(60)])
    # Three sources; the scene i04 has pictures in two of them.
    source._columns["subset"] = np.array(["a"] * 27 + ["b"] * 21 + ["c"] * 12)
    split = subset_split(source, "b", of="train")
    found = members(split.assigned(source))
    ids = source.column("image_id")
    assert split.id == "set train without b" and found["test"] == set(ids[27:48])
    assert found[""] == set(ids[:6]) | set(ids[24:27])
    assert found["train"] | found["val"] == set(ids[6:24]) | set(ids[48:]) and len(found["val"]) == 6
    split.save(tmp_path / "s.json")
    assert members(Split.load(tmp_path / "s.json").assigned(source)) == found
    with pytest.raises(DataError, match="no subset 'd' or no other subset; its subsets are a, b, c"):
        subset_split(source, "d")


def test_a_split_returns_from_its_file_and_needs_no_list_of_pictures(tmp_path):
    source = Labels()
    split = hash_split(source, 3)
    split.save(tmp_path / "s.json")
    assert Split.load(tmp_path / "s.json") == split
    assert (tmp_path / "s.json").stat().st_size < 600 and split.images is None
    np.testing.assert_array_equal(
        Split.load(tmp_path / "s.json").assigned(source).column("split"), split.assigned(source).column("split")
    )


def test_a_set_that_has_changed_and_another_set_are_refused():
    split = hash_split(Labels(), 0)
    with pytest.raises(DataError, match="this split belongs to set, not to other"):
        split.assigned(Labels(name="other"))
    with pytest.raises(DataError, match="set hash 0: set has changed since this split was drawn"):
        split.assigned(Labels(groups=[f"g{k // 3}" for k in range(60)]))


def test_what_is_no_split_file_says_so(tmp_path):
    file = tmp_path / "s.json"
    with pytest.raises(DataError, match=r"s\.json: cannot be read"):
        Split.load(file)
    file.write_text("{\n1}")
    with pytest.raises(DataError, match=r"s\.json, line 2: is not a split file"):
        Split.load(file)
    file.write_text("{}")
    with pytest.raises(DataError, match="is not a split file: its format is not"):
        Split.load(file)


def test_the_official_split_is_kept_as_a_rule():
    splits = ["test" if ref < 2 else "train" for ref in range(10) for _ in range(6)]
    split = official_split(Labels(splits))
    assert split.official and split.rule == {"kind": "official"} and split.counts == {"train": 48, "test": 12}
    np.testing.assert_array_equal(split.assigned(Labels(splits)).column("split"), splits)
    with pytest.raises(DataError, match="has no official split"):
        official_split(Labels())


def test_a_split_that_parts_a_reference_is_refused_and_the_reference_is_named():
    splits = ["test" if k % 6 == 0 else "train" for k in range(60)]
    with pytest.raises(DataError, match=r"set: the reference 'i00' is in test and train \(10 such references\)"):
        official_split(Labels(splits))


def write_arniqa(folder, **parts):
    folder.mkdir()
    for part in PARTS:
        np.save(folder / f"{part}.npy", np.array(parts[part]))


ROWS = {"train": [[*range(48)], [*range(12, 60)]], "val": [[*range(48, 54)]] * 2, "test": [[54, 55, -1, -1]] * 2}


def test_arniqas_rows_are_read_as_they_are(tmp_path):
    write_arniqa(tmp_path / "a", **ROWS)
    split = published_split(tmp_path / "a", Labels())
    assert split.official and split.rule["by"] == "ARNIQA" and split.counts == {"train": 48, "val": 6, "test": 2}
    found = members(split.assigned(Labels()))
    assert found["test"] == {"i09_0.bmp", "i09_1.bmp"} and found[""] == {f"i09_{k}.bmp" for k in range(2, 6)}
    split.save(tmp_path / "s.json")
    assert Split.load(tmp_path / "s.json") == split
    with pytest.raises(DataError, match="'i08_0.bmp' is already in train"):
        published_split(tmp_path / "a", Labels(), 1)
    with pytest.raises(DataError, match=r"train\.npy: has the splits 0 to 1, not 2"):
        published_split(tmp_path / "a", Labels(), 2)
    write_arniqa(tmp_path / "b", **{**ROWS, "val": [[60]]})
    with pytest.raises(DataError, match=r"val\.npy: names row 60, and set has 60"):
        published_split(tmp_path / "b", Labels())
    write_arniqa(tmp_path / "c", **{**ROWS, "test": [[54]], "val": [[55]]})
    with pytest.raises(DataError, match="the reference 'i09' is in test and val"):
        published_split(tmp_path / "c", Labels())


def write_liqe(folder, **parts):
    folder.mkdir(parents=True)
    for part, names in parts.items():
        lines = "".join(f"images/{name}\t0.5\twhite noise\tanimal\tinvalid\tinvalid\n" for name in names)
        (folder / f"set_{part}_clip.txt").write_text(lines)


def test_liqes_names_are_read_as_they_are(tmp_path):
    write_liqe(tmp_path / "7", train=["I00_0.BMP", "i01_3.bmp"], val=["i02_0.bmp"], test=["i03_0.bmp"])
    split = published_split(tmp_path / "7", Labels())
    assert split.id == "set LIQE 7" and split.images == {
        "train": ("i00_0.bmp", "i01_3.bmp"),
        "val": ("i02_0.bmp",),
        "test": ("i03_0.bmp",),
    }
    write_liqe(tmp_path / "8", train=["i00_0.bmp", "i77_0.bmp"], val=["i02_0.bmp"], test=["i03_0.bmp"])
    with pytest.raises(DataError, match=r"set_train_clip\.txt, line 2: set has no picture 'images/i77_0\.bmp'"):
        published_split(tmp_path / "8", Labels())
    with pytest.raises(DataError, match="contains no published split"):
        published_split(tmp_path, Labels())


def test_training_warns_of_an_official_split_that_shares_scenes_and_refuses_another():
    groups = [f"g{k}" for k in range(60)]
    groups[59] = "g0"
    splits = ["test" if k >= 54 else "train" for k in range(60)]
    source = Labels(splits, groups, references=False)
    parts = select(source, "train/fit"), select(source, "train/val")
    assert "g0" in parts[0].column("group")
    said = require_separate_contents(source, *parts, official=True)
    assert "'i09_5.bmp' (test) and 'i00_0.bmp' (train), both 'g0'" in said and "of the /novel part too" in said
    with pytest.raises(DataError, match="1 of 11 held-out images share a scene with the training part set:train/fit"):
        require_separate_contents(source, *parts, official=False)
    alone = Labels(splits, [f"g{k}" for k in range(60)], references=False)
    assert require_separate_contents(alone, select(alone, "train/fit"), select(alone, "train/val"), False) is None


def test_training_refuses_a_shared_reference_whoever_drew_the_split():
    source = Labels(["test" if k % 6 == 0 else "train" for k in range(60)])
    with pytest.raises(DataError, match="share a reference with the training part set:train: .*'i00'"):
        require_separate_contents(source, select(source, "train"), select(source, "test"), official=True)


def test_training_follows_a_split_file_and_looks_for_shared_scenes(tmp_path, capsys):
    from driqa_jax.errors import UserError
    from driqa_jax.train.config import default
    from driqa_jax.train.loop import sources

    config = default()
    config.data.kind, config.data.train, config.data.val = "fake", "train", "val"
    split = hash_split(open_source("fake"), 1)
    split.save(tmp_path / "s.json")
    config.data.split_file = str(tmp_path / "s.json")
    train, val = sources(config)
    assert (len(train), len(val)) == (split.counts["train"], split.counts["val"]) and capsys.readouterr().err == ""
    config.data.split_file = str(tmp_path / "absent.json")
    with pytest.raises(UserError, match=r"absent\.json: cannot be read"):
        sources(config)


def test_the_command_writes_a_split_that_evaluate_follows(tmp_path, capsys):
    file, report = tmp_path / "s.json", tmp_path / "r.json"
    assert cli.main(["data", "split", "fake", "--hash", "2", "-o", str(file)]) == 0
    assert "fake hash 2: train " in capsys.readouterr().out
    source = open_source("fake")
    lines = [f"{i},{mos}\n" for i, mos in zip(source.column("image_id"), source.column("mos"), strict=True)]
    (tmp_path / "scores.csv").write_text("image,score\n" + "".join(lines))
    words = [
        "evaluate",
        "--model",
        "none",
        "--scores",
        str(tmp_path / "scores.csv"),
        "--data",
        "fake",
        "--bootstrap",
        "0",
    ]
    assert cli.main([*words, "--split-file", str(file), "-o", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["provenance"]["data"]["split"]["sha256"] == Split.load(file).sha256
    assert found["n"] == Split.load(file).counts["test"] and found["metrics"]["srcc"] == 1.0
    capsys.readouterr()
    assert cli.main(["data", "split", "fake", "--published", str(tmp_path), "-o", "x"]) == 2
    assert "contains no published split" in capsys.readouterr().err
