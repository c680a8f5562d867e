"""Every public set from a small folder in its authors' layout, with its traps, to records and back."""

import importlib
import math
import shutil

import numpy as np
import pytest
import scipy.io
import small_sets

from driqa_jax.data.datasets import NAMES, layout_of
from driqa_jax.data.datasets import livec as livec_layout
from driqa_jax.data.datasets._tfds_builder import require_counts
from driqa_jax.data.open import open_source
from driqa_jax.data.prepare import check, prepare
from driqa_jax.errors import DataError


@pytest.fixture
def small(tmp_path, monkeypatch):
    """name -> the set's folder, written small; the counts are then those of the small set."""

    def make(name, **options):
        counts = layout_of(name).counts
        monkeypatch.setattr(livec_layout, "ROWS", 7 + small_sets.COUNTS["livec"]["train"])
        for split, count in small_sets.COUNTS[name].items():
            monkeypatch.setitem(counts, split, count)
        return small_sets.WRITERS[name](tmp_path / "authors", **options)

    return make


def ratings(name, folder):
    layout = layout_of(name)
    return list(layout.ratings(layout.root(folder)))


def units(name, folder):
    return {rating.image_id: layout_of(name).unit(rating.raw) for rating in ratings(name, folder)}


def test_there_is_a_small_copy_of_every_set():
    assert {*small_sets.WRITERS, "biq2021"} == set(NAMES) and set(small_sets.COUNTS) == set(small_sets.WRITERS)


@pytest.mark.parametrize("name", small_sets.WRITERS)
def test_a_set_is_checked_prepared_and_read_back(name, small, tmp_path):
    folder = small(name)
    found = check(name, folder, decode=True)
    counts = small_sets.COUNTS[name]
    assert found.defects == [] and found.splits == {split: (n, n, n) for split, n in counts.items()}
    prepare(name, folder, tmp_path / "tfds")
    source = open_source("tfds", str(tmp_path / "tfds"), name)
    by_id = {rating.image_id: rating for rating in ratings(name, folder)}
    assert dict(zip(*np.unique(source.column("split"), return_counts=True), strict=True)) == counts
    assert sorted(by_id) == sorted(source.column("image_id"))
    rows = source.column("row")
    assert [list(by_id)[row] for row in rows] == source.column("image_id").tolist()
    for i in range(len(source)):
        example = source[i]
        rating = by_id[example["image_id"]]
        assert example["mos"] == pytest.approx(layout_of(name).unit(rating.raw), abs=1e-6)
        for key in ("reference", "degradation", "level", "subset", "split"):
            assert example[key] == getattr(rating, key)
        assert example["group"] == rating.reference or not rating.reference
        assert example["image"][:2] in (b"BM", b"\xff\xd8", b"\x89P")
    assert set(source.label_files) and all(len(sha) == 64 for sha in source.label_files.values())


@pytest.mark.parametrize("name", ["live", "pipal"])
def test_raw_scores_and_deviations_are_features_too(name, small, tmp_path):
    import tensorflow_datasets as tfds

    folder = prepare(name, small(name), tmp_path / "tfds")
    records = tfds.builder_from_directory(str(folder)).as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    raw = {rating.image_id: rating for rating in ratings(name, tmp_path / "authors")}
    for record in records:
        rating = raw[record["image_id"].decode()]
        assert record["mos_raw"] == pytest.approx(rating.raw)
        assert np.isnan(record["mos_std"]) if math.isnan(rating.std) else record["mos_std"] == rating.std


def test_live_drops_originals_keeps_the_folder_order_and_turns_dmos_over(small):
    folder = small("live")
    found = ratings("live", folder)
    assert [rating.image_id for rating in found] == [
        "jp2k/img2.bmp",
        "jp2k/img10.bmp",
        "jpeg/img1.bmp",
        "fastfading/img174.bmp",
    ]
    assert [rating.reference for rating in found] == ["bikes", "caps", "bikes", "caps"]
    assert [rating.std for rating in found] == [3, 2, 1, 4]
    assert list(units("live", folder).values()) == pytest.approx([0.845, 0, 1, 0.5])  # beyond the scale is clipped


def test_live_refuses_the_scores_that_are_not_realigned(small):
    top = small("live") / "databaserelease2"
    scipy.io.savemat(top / "dmos_realigned.mat", {"dmos": np.zeros((1, 982)), "orgs": np.zeros((1, 982))})
    with pytest.raises(DataError, match=r"dmos_realigned\.mat: has no 'dmos_new', it holds dmos, orgs"):
        ratings("live", top)
    scipy.io.savemat(top / "refnames_all.mat", {"refnames_all": small_sets.names_cell(["a.bmp"] * 779)[None, :]})
    with pytest.raises(DataError, match=r"refnames_all\.mat: 'refnames_all' has 779 entries, where .* has 982"):
        ratings("live", top)
    (top / "refnames_all.mat").write_bytes(b"no more")
    with pytest.raises(DataError, match=r"refnames_all\.mat: is not a \.mat file"):
        ratings("live", top)


@pytest.mark.parametrize("sheet", [True, False])
def test_csiq_from_the_sheet_or_the_text_is_the_same(small, sheet):
    found = ratings("csiq", small("csiq", sheet=sheet))
    assert [(r.image_id, r.reference, r.degradation, r.level, r.raw) for r in found] == [
        ("1600.awgn.1.png", "1600", "awgn", 1, 0.0625),
        ("sunsetcolor.awgn.1.png", "sunsetcolor", "awgn", 1, 0.75),
        ("sunset_sparrow.awgn.1.png", "sunset_sparrow", "awgn", 1, 0.25),
        ("1600.jpeg2000.2.png", "1600", "jpeg2000", 2, 0.5),
        ("sunsetcolor.contrast.4.png", "sunsetcolor", "contrast", 4, 1.0),
    ]
    assert [r.std for r in found][0] == 0.05 if sheet else math.isnan(found[0].std)


def test_csiq_turns_dmos_over_and_refuses_a_mos_of_nine(small):
    folder = small("csiq", sheet=False)
    assert units("csiq", folder)["sunsetcolor.contrast.4.png"] == 0
    small_sets.write(folder / "csiq_label.txt", "1600.AWGN.1.png 0.5\n1600.AWGN.2.png 8.5\n")
    with pytest.raises(DataError, match=r"csiq_label\.txt, line 2: the score 8\.5 .*not in \[0, 1\].*right label file"):
        ratings("csiq", folder)


def test_csiq_without_its_sheet_or_header(small):
    folder = small("csiq")
    small_sets.write_xlsx(folder / "csiq.DMOS.xlsx", {"all_by_image": [["image", "mos"], ["a", 1]]})
    with pytest.raises(DataError, match=r"csiq\.DMOS\.xlsx, line 1: has no column 'dst_type'"):
        ratings("csiq", folder)
    small_sets.write_xlsx(folder / "csiq.DMOS.xlsx", {"Sheet1": [["image"]]})
    with pytest.raises(DataError, match="has no sheet 'all_by_image'; its sheets are Sheet1"):
        ratings("csiq", folder)
    (folder / "csiq.DMOS.xlsx").write_text("no workbook")
    with pytest.raises(DataError, match="is not an .xlsx file"):
        ratings("csiq", folder)


def test_tid2013_reads_scores_that_stand_before_names_of_any_case(small):
    folder = small("tid2013")
    found = ratings("tid2013", folder)
    assert [(r.image_id, r.reference, r.level, r.std) for r in found] == [
        ("i01_01_1.bmp", "i01", 1, 0.05),
        ("i01_24_5.bmp", "i01", 5, 0.15),
        ("i25_08_2.bmp", "i25", 2, 0.25),
        ("i25_01_1.bmp", "i25", 1, 0.35),
    ]
    assert found[2].degradation == "Gaussian blur" and found[1].degradation == "sparse sampling and reconstruction"
    assert list(units("tid2013", folder).values()) == pytest.approx([0.5, 0.24242 / 9, 0.8, 1])
    small_sets.write(folder / "mos_std.txt", "0.1\n0.2\n")
    with pytest.raises(DataError, match=r"mos_std\.txt: has 2 lines, mos_with_names\.txt has 4"):
        ratings("tid2013", folder)
    small_sets.write(folder / "mos_std.txt", "0.1\n")
    small_sets.write(folder / "mos_with_names.txt", "I01_01_1.bmp 5.5\n")
    with pytest.raises(DataError, match=r"mos_with_names\.txt, line 1"):
        ratings("tid2013", folder)


def test_kadid_is_better_when_higher_and_has_81_references(small):
    folder = small("kadid10k")
    assert units("kadid10k", folder) == pytest.approx(
        {"I01_01_01.png": 0.8925, "I01_25_05.png": 0, "I81_10_03.png": 0.5}
    )
    last = ratings("kadid10k", folder)[-1]
    assert (last.reference, last.degradation, last.level, last.std) == ("I81", "jpeg", 3, 0.9)


def test_livec_drops_the_seven_training_pictures(small):
    folder = small("livec")
    assert units("livec", folder) == pytest.approx({"3.bmp": 0.635, "611.JPG": 0, "1163.bmp": 0.92432})
    names = small_sets.names_cell(["3.bmp", "4.bmp", *["t1.bmp"] * 8])[:, None]
    scipy.io.savemat(folder / "ChallengeDB_release/Data/AllImages_release.mat", {"AllImages_release": names})
    with pytest.raises(DataError, match="begins with 3.bmp, 4.bmp, .* begins with t1 to t7"):
        ratings("livec", folder)


def test_koniq_reads_the_scores_of_0_to_100_from_either_file(small):
    both = ratings("koniq10k", small("koniq10k", images="512x384"))
    assert [(r.raw, r.split) for r in both] == [(77.5, "train"), (68.75, "test"), (3.92, "val")]
    folder = both[0].file.parent
    (folder / "koniq10k_distributions_sets.csv").unlink()
    assert [(r.raw, r.split) for r in ratings("koniq10k", folder)] == [
        (78.5, "train"),
        (69.75, "train"),
        (4.92, "train"),
    ]
    assert list(layout_of("koniq10k").label_sha256(folder)) == ["koniq10k_scores_and_distributions.csv"]
    assert check("koniq10k", folder).splits == {"train": (3, 3, 3)}


def test_koniq_refuses_the_scores_of_1_to_5_under_the_other_name(small):
    folder = small("koniq10k")
    text = (folder / "koniq10k_scores_and_distributions.csv").read_text()
    small_sets.write(folder / "koniq10k_distributions_sets.csv", text)
    with pytest.raises(DataError, match=r"sets\.csv, line 1: has no column 'set'"):
        ratings("koniq10k", folder)
    rows = "".join(f"{name},{five},{part}\n" for name, five, _, part in small_sets.KONIQ)
    small_sets.write(folder / "koniq10k_distributions_sets.csv", "image_name,MOS,set\n" + rows)
    with pytest.raises(DataError, match="its MOS goes from 1 to 5"):
        ratings("koniq10k", folder)


def test_flive_has_its_official_split(small):
    folder = small("flive")
    assert {r.image_id: (r.split, r.subset) for r in ratings("flive", folder)} == {
        "blur_dataset/motion0044.jpg": ("val", "blur_dataset"),
        "voc_emotic_ava/AVA__1.jpg": ("test", "voc_emotic_ava"),
        "EE371R/rq59.jpg": ("train", "EE371R"),
        "voc_emotic_ava/EMOTIC__2.jpg": ("train", "voc_emotic_ava"),
    }
    small_sets.write(folder / "database/labels=640_padded.csv", "is_valid,name_image\nmaybe,blur_dataset/x.jpg\n")
    with pytest.raises(DataError, match="line 2: is_valid must be True or False, got 'maybe'"):
        ratings("flive", folder)


def test_flives_label_files_may_lie_beside_the_pictures_folder(small):
    folder = small("flive")
    for file in (folder / "database").glob("*.csv"):
        file.rename(folder / file.name)
    assert check("flive", folder).defects == [] and layout_of("flive").root(folder) == folder


def test_pipal_parts_name_and_score_at_a_comma_with_or_without_a_blank(small):
    folder = small("pipal")
    assert units("pipal", folder) == pytest.approx(
        {"A0001_00_00.bmp": 0.656336, "A0001_06_26.bmp": 0, "A0248_03_01.bmp": 1}, abs=1e-5
    )
    assert [(r.reference, r.degradation) for r in ratings("pipal", folder)] == [
        ("A0001", "traditional super-resolution"),
        ("A0001", "traditional distortions"),
        ("A0248", "GAN-based super-resolution"),
    ]
    small_sets.write(folder / "Train_Label/A0248.txt", "A0001_03_01.bmp,1500\n")
    with pytest.raises(DataError, match=r"A0248\.txt, line 1: 'A0001_03_01\.bmp' is not A0248_tt_vv\.bmp"):
        ratings("pipal", folder)


def edited(name, folder, old, new):
    """Change the first label file that is text; returns it."""
    layout = layout_of(name)
    for label in layout.label_names():
        file = layout.root(folder) / label
        if file.suffix in (".csv", ".txt") and old in file.read_text():
            file.write_text(file.read_text().replace(old, new, 1))
            return file
    raise AssertionError(f"{old} is in no label file")


@pytest.mark.parametrize(
    "name, old, new, line, message",
    [
        ("kadid10k", "4.57", "nan", 2, r"the score nan of 'I01_01_01\.png' is not in \[1, 5\]"),
        ("kadid10k", "4.57", "good", 2, "the score 'good' of 'I01_01_01.png' is not a number"),
        ("kadid10k", "4.57", "0.31", 2, r"0\.31 .*is not in \[1, 5\], where KADID-10k has .*: is this the right label"),
        ("kadid10k", "I01_25_05.png", "I01_01_01.png", 3, r"is already listed in dmos\.csv, line 2"),
        ("kadid10k", "dmos,var", "dmos", 1, "has no column 'var'"),
        ("kadid10k", "I01_25_05.png,I01", "I01_25_05.png,I02", 3, "has the reference 'I02.png'"),
        ("kadid10k", "I01_25_05.png", "", 3, "has no image name"),
        ("tid2013", "0.24242", "nan", 2, r"the score nan of 'i01_24_5\.bmp'"),
        ("tid2013", "4.5 ", "4.5 x ", 1, "holds 3 words, where TID2013 has 2"),
        ("koniq10k", "training", "practice", 2, "the set 'practice' of '10.jpg' must be one of training"),
        ("flive", "94.333", "inf", 5, "the score inf"),
        ("spaq", None, None, 3, "the score 'good' of '00002.jpg' is not a number"),
    ],
)
def test_every_defect_of_the_labels_is_named_by_file_and_line(small, name, old, new, line, message):
    folder = small(name)
    if name == "spaq":
        file = folder / "Annotations/MOS and Image attribute scores.xlsx"
        rows = [["Image name", "MOS"], ["00001.jpg", 1.5], ["00002.jpg", "good"]]
        small_sets.write_xlsx(file, {"Sheet1": rows})
    else:
        file = edited(name, folder, old, new)
    with pytest.raises(DataError, match=message) as caught:
        ratings(name, folder)
    assert (caught.value.file, caught.value.line) == (str(file), line)


@pytest.mark.parametrize("name", small_sets.WRITERS)
def test_an_absent_picture_is_named_by_its_place_in_the_labels(name, small, tmp_path):
    folder = small(name)
    layout = layout_of(name)
    first = ratings(name, folder)[0]
    [file] = [file for file in folder.rglob("*") if file.name.lower() == first.path.split("/")[-1].lower()]
    file.unlink()
    [defect] = check(name, folder).defects
    assert repr(first.path) in defect and first.file.name in defect and f"{first.line or ''}" in defect
    with pytest.raises(DataError, match="is not in ") as caught:
        prepare(name, folder, tmp_path / "tfds")
    assert (caught.value.file, caught.value.line) == (
        str(layout.root(folder).resolve() / first.file.relative_to(layout.root(folder))),
        first.line,
    )


def test_too_few_rows_are_a_defect_that_names_the_last_line(small, tmp_path):
    folder = small("kadid10k")
    edited("kadid10k", folder, "I81_10_03.png,I81.png,3,0.9\n", "")
    assert check("kadid10k", folder).defects == ["train: 2 ratings, expected 3"]
    with pytest.raises(DataError, match=r"dmos\.csv, line 3: ends with 2 ratings of train, where KADID-10k has 3"):
        prepare("kadid10k", folder, tmp_path / "tfds")


def test_a_folder_without_pictures_is_one_defect(small):
    folder = small("tid2013")
    shutil.rmtree(folder / "distorted_images")
    assert check("tid2013", folder).defects == [
        f"{folder / 'distorted_images'}: no such folder; all 4 images are missing"
    ]


def test_the_counts_are_those_of_the_literature():
    totals = {name: sum(layout_of(name).counts.values()) for name in NAMES}
    assert totals == {
        "live": 779,
        "csiq": 866,
        "tid2013": 3000,
        "kadid10k": 10125,
        "livec": 1162,
        "koniq10k": 10073,
        "spaq": 11125,
        "flive": 39810,
        "pipal": 23200,
        "biq2021": 12000,
    }
    assert importlib.import_module("driqa_jax.data.datasets.livec").ROWS == 1169
    with pytest.raises(DataError, match=r"ends with 3 ratings of train, where KADID-10k has 10125"):
        require_counts(layout_of("kadid10k"), [ratings_of_kadid()] * 3)


def ratings_of_kadid():
    from driqa_jax.data.datasets._layout import Rating

    return Rating("I01_01_01.png", "I01_01_01.png", 4.0, "dmos.csv", 4)
