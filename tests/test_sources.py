"""Sources: a CSV with every defect named by file and line, photographs, fakes; splits that never move."""

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.data.open import open_source
from driqa_jax.data.source import Joined, Subset, mid_rank
from driqa_jax.data.splits import fraction, in_validation, select
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.errors import DataError


def write_picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (value, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Pictures a.png, b.png, sub/c.png."""
    for value, name in enumerate(("a.png", "b.png", "sub/c.png")):
        write_picture(tmp_path / name, value)
    return tmp_path


def opened(folder, text, name="ratings.csv", encoding="utf-8", **options):
    (folder / name).write_bytes(text.encode(encoding))
    return open_source("folder", str(folder / name), **options)


def values(source, *keys):
    return [tuple(source[i][key] for key in keys) for i in range(len(source))]


def test_a_csv_of_ones_own(folder):
    source = opened(folder, "image,mos,split,group\na.png,0.5,train,x\nb.png,0.25,test,y\nsub/c.png, 1 ,val,x\n")
    assert len(source) == 3 and source.name == "ratings"
    assert values(source, "image_id", "mos", "split", "group") == [
        ("a.png", 0.5, "train", "x"),
        ("b.png", 0.25, "test", "y"),
        ("sub/c.png", 1.0, "val", "x"),
    ]
    assert values(source, "subset", "dataset") == [("", "ratings")] * 3
    np.testing.assert_allclose(source.column("percentile"), [0.5, 1 / 6, 5 / 6])
    assert source[2]["image"] == (folder / "sub/c.png").read_bytes() == source[-1]["image"]
    with pytest.raises(IndexError):
        source[3]
    with pytest.raises(KeyError, match="no column 'moss'; it has mos"):
        source.column("moss")


def test_splits_and_groups_may_be_left_out(folder):
    source = opened(folder, "image,mos\na.png,0\nb.png,1\n")
    assert values(source, "split", "group") == [("train", "a.png"), ("train", "b.png")]


@pytest.mark.parametrize("encoding, end", [("utf-8-sig", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r\n")])
def test_bom_line_ends_blank_lines_and_a_trailing_comma(folder, encoding, end):
    text = end.join(["Image,MOS,", "a.png,0.5,", "", ",,", '"b.png",0.25,', ""])
    assert values(opened(folder, text, encoding=encoding), "image_id", "mos") == [
        ("a.png", 0.5),
        ("b.png", 0.25),
    ]


def test_a_folder_that_holds_one_csv_and_pictures_elsewhere(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("labels")
    (other / "my scores.csv").write_text("image,mos\n./sub/c.png,0.5\n")
    source = open_source("folder", str(other), images=str(folder), name="mine")
    assert values(source, "image_id", "dataset") == [("sub/c.png", "mine")] and source.name == "mine"
    assert source[0]["image"] == (folder / "sub/c.png").read_bytes()


@pytest.mark.parametrize("mos_range, expected", [((1, 5), [0.25, 1.0]), ((10, 0), [0.8, 0.5])])
def test_other_scales_and_lower_is_better(folder, mos_range, expected):
    source = opened(folder, "image,mos\na.png,2\nb.png,5\n", mos_range=mos_range)
    np.testing.assert_allclose(source.column("mos"), expected)


def test_meta_info_without_a_reference(folder):
    text = "img_name,mean,std,ratio0.8_seed1_split_01,official_split\na.png,4.2,.1,0,train\nb.png,3,.1,2,validation\n"
    source = opened(folder, text, mos_range=(0, 5), split_column="ratio0.8_seed1_split_01")
    assert values(source, "image_id", "split") == [("a.png", "train"), ("b.png", "test")]
    np.testing.assert_allclose(source.column("mos"), [0.84, 0.6])
    with pytest.raises(DataError, match=r"line 1: .*several splits \(ratio0.8_seed1_split_01, official_split\)"):
        opened(folder, text, mos_range=(0, 5))
    with pytest.raises(DataError, match="line 1: has no column split01; its columns are img_name"):
        opened(folder, text, mos_range=(0, 5), split_column="split01")


def test_meta_info_with_a_reference_groups_by_it(folder):
    text = (
        "ref_name,dist_name,dmos,split01\nI01.png,a.png,0.1,train\nI01.png,b.png,0.9,train\nI02.png,sub/c.png,1,val\n"
    )
    source = opened(folder, text, mos_range=(1, 0))
    np.testing.assert_allclose(source.column("mos"), [0.9, 0.1, 0])
    assert values(source, "image_id", "group", "split") == [
        ("a.png", "I01.png", "train"),
        ("b.png", "I01.png", "train"),
        ("sub/c.png", "I02.png", "val"),
    ]


def test_what_else_a_csv_of_ones_own_may_say(folder):
    text = "image,mos,reference,degradation,subset\na.png,0.5,I01,blur,x\nb.png,0.25,I01,,y\nsub/c.png,1,I02,noise,\n"
    source = opened(folder, text)
    assert values(source, "group", "reference", "degradation", "subset", "row") == [
        ("I01", "I01", "blur", "x", 0),
        ("I01", "I01", "", "y", 1),
        ("I02", "I02", "noise", "", 2),
    ]
    sha = hashlib.sha256(text.encode()).hexdigest()
    assert source.label_files == Subset(source, [1], "part").label_files == {"ratings.csv": sha}
    assert values(FakeSource(2), "reference", "level", "row") == [("", 0, -1)] * 2


def test_a_dmos_is_never_taken_for_a_mos(folder):
    with pytest.raises(DataError, match=r"line 1: the scores are named dmos: .*mos_range=\(1, 0\)"):
        opened(folder, "ref_name,dist_name,dmos\nI01.png,a.png,0.1\n")


def test_meta_info_with_the_words_of_koniq(folder):
    text = "img_name,mos,std,split\na.png,77,.5,training\nb.png,68,.5,validation\nsub/c.png,70,.5,test\n"
    source = opened(folder, text, mos_range=(0, 100))
    assert source.column("split").tolist() == ["train", "val", "test"]


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("", 1, "has no scores"),
        ("image,mos\n", 1, "has no scores"),
        ("a.png,0.5,train\nb.png,0.6,test\n", 1, "put a header image,mos above it"),
        (
            "name,what\na.png,good\n",
            1,
            "no column of scores; its columns are name, what; choose one, .*score_column='N",
        ),
        ("name,a,b\na.png,0.1,0.2\n", 1, "a, b may all hold the scores; .*score_column='a'"),
        ("name,mos_a,mos_b\na.png,0.1,0.2\n", 1, "mos_a, mos_b may all hold the scores"),
        ("name,mos,MOS\na.png,0.1,0.2\n", 1, "mos, MOS may all hold the scores"),
        ("image,mos\na.png,0,5\n", 2, "holds 3 cells for 2 columns; .*decimal commas"),
        ('image,mos\na.png,"0,5"\n', 2, "the score '0,5' is not a number; write a decimal point"),
        ("image;mos\na.png;0,5\nb.png;0.5\n", 2, "decimal comma, others have a point"),
        ("image,mos\na.png,0.5\nb.png,good\n", 3, "the score 'good' is not a number"),
        ("image,mos\na.png,0.5\nb.png,\n", 3, "the score '' is not a number"),
        ("image,mos\na.png,0.5\nb.png\n", 3, "the score '' is not a number"),
        ("image,mos\na.png,nan\n", 2, "the score is nan"),
        ("image,mos\na.png,inf\n", 2, "the score is inf"),
        ("image,mos\na.png,0.5\n,0.5\n", 3, "has no image name"),
        ("image,mos\na.png,0.5\n\nabsent.png,0.5\n", 4, "no picture .*absent.png; correct the name"),
        ("image,mos\nA.PNG,0.5\n", 2, r"there is a\.png: upper and lower case differ"),
        ("image,mos\nsub,0.5\n", 2, "no picture .*sub"),
        ("image,mos\na.png,0.5\nb.png,0.5\n./a.png,0.6\n", 4, "a.png is already listed on line 2"),
        ("image,mos\na.png,0.5\nb.png,3.5\n", 3, r"mos 3.5 lies outside \[0, 1\]; state the scale"),
        ("image,mos,split\na.png,0.5,train\nb.png,0.5,\n", 3, "has no split"),
        ('image,mos\n"a.png",0.5\n"b\n.png",0.5\n', 4, "no picture"),
        ("image,mos\na.png,0.5\na\0b.png,0.5\n", 3, "."),
    ],
)
def test_every_defect_is_named_by_file_and_line(folder, text, line, message):
    with pytest.raises(DataError, match=message) as caught:
        opened(folder, text)
    file = folder / "ratings.csv"
    assert (caught.value.file, caught.value.line) == (str(file), line)
    assert str(caught.value).startswith(f"{file}, line {line}: ")


def test_a_score_outside_the_stated_scale_and_a_scale_that_is_none(folder):
    with pytest.raises(DataError, match=r"line 3: mos 6 lies outside mos_range=\(1, 5\)"):
        opened(folder, "image,mos\na.png,5\nb.png,6\n", mos_range=(1, 5))
    with pytest.raises(ValueError, match="two different numbers"):
        opened(folder, "image,mos\na.png,5\n", mos_range=(5, 5))


def test_a_csv_that_is_no_text_names_the_line(folder):
    with pytest.raises(DataError, match="line 3: .*UTF-8"):
        opened(folder, "image,mos\na.png,0.5\nphoto_\xe9.png,0.5\n", encoding="latin-1")


def test_a_quotation_mark_left_open_names_the_line(folder):
    text = 'image,mos\na.png,0.5\n"b.png,0.5\n' + "x" * 200_000
    with pytest.raises(DataError, match="line [34]: is not CSV"):
        opened(folder, text)


def test_a_csv_that_is_not_there_or_not_alone(folder):
    with pytest.raises(DataError, match="absent.csv: no such file or folder"):
        open_source("folder", str(folder / "absent.csv"))
    with pytest.raises(DataError, match="expected one CSV file in this folder, found: none"):
        open_source("folder", str(folder))
    for name in ("x.csv", "y.csv"):
        (folder / name).write_text("image,mos\na.png,1\n")
    with pytest.raises(DataError, match=r"found: x\.csv, y\.csv; name the file itself"):
        open_source("folder", str(folder))


def test_photos(folder):
    (folder / "notes.txt").write_text("no picture")
    write_picture(folder / "Z.JPG")
    source = open_source("photos", str(folder))
    assert source.column("image_id").tolist() == ["Z.JPG", "a.png", "b.png", "sub/c.png"]
    assert np.isnan(source.column("mos")).all() and np.isnan(source.column("percentile")).all()
    assert source[3]["image"] == (folder / "sub/c.png").read_bytes() and source[3]["split"] == "train"


def test_photos_missing_or_empty(tmp_path):
    with pytest.raises(DataError, match="absent: no such folder"):
        open_source("photos", str(tmp_path / "absent"))
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=f"{tmp_path}: no picture in this folder"):
        open_source("photos", str(tmp_path))


def test_fakes_are_the_same_bytes_always_and_their_mos_falls_with_severity():
    source, again = (open_source("fake", count=12, size=64) for _ in range(2))
    assert [source[i]["image"] for i in range(12)] == [again[i]["image"] for i in range(12)]
    assert open_source("fake", count=20, size=64)[5]["image"] == source[5]["image"]
    assert source[0]["image"] != open_source("fake", count=12, size=64, seed=1)[0]["image"]
    assert decode(source[0]["image"]).shape == (64, 64, 3)
    assert source.column("group").tolist()[:4] == ["scene00000", "scene00000", "scene00001", "scene00001"]
    assert source.column("split").tolist() == ["train"] * 8 + ["test"] * 2 + ["train"] * 2
    noise = [i for i in range(12) if source.column("subset")[i] == "noise"]
    rough = [np.abs(np.diff(decode(source[i]["image"]).astype(float), axis=0)).mean() for i in noise]
    assert np.corrcoef(rough, source.column("mos")[noise])[0, 1] < -0.9


def test_kinds_and_what_they_need():
    with pytest.raises(ValueError, match="unknown kind of source 'csv'; the kinds are tfds, folder, photos, fake"):
        open_source("csv", "x")
    with pytest.raises(ValueError, match="'folder' needs a path"):
        open_source("folder")
    with pytest.raises(ValueError, match="'tfds' needs a name"):
        open_source("tfds", "x")


def test_mid_rank():
    np.testing.assert_allclose(mid_rank(np.array([3.0, 1, 3, 2])), [0.75, 0.125, 0.75, 0.375])
    np.testing.assert_allclose(mid_rank(np.array([5.0, np.nan, 1])), [0.75, np.nan, 0.25])


def test_joined_and_subset_read_the_right_pictures():
    first, second = FakeSource(4, size=16), FakeSource(3, size=16, seed=1, name="other")
    both = Joined({"fake": first, "other": second})
    assert [both[i]["image"] for i in range(7)] == [s[i]["image"] for s in (first, second) for i in range(len(s))]
    assert both.column("dataset").tolist() == ["fake"] * 4 + ["other"] * 3
    np.testing.assert_array_equal(both.column("percentile")[4:], second.column("percentile"))
    part = Subset(both, [5, 0], "part")
    assert [part[i]["image"] for i in range(2)] == [both[5]["image"], both[0]["image"]]
    np.testing.assert_allclose(np.sort(part.column("percentile")), [0.25, 0.75])


GROUPS = np.array([f"scene{i // 2:05d}" for i in range(60)])
# What these names hash to, for ever: were the fold to move, a later training would see what was held out.
HELD_OUT = [9, 21, 28]


def test_the_validation_fold_never_moves():
    assert fraction("scene00000") == pytest.approx(0.4756745097922057, abs=1e-15)
    assert np.flatnonzero(in_validation(GROUPS)[::2]).tolist() == HELD_OUT
    code = (
        "import numpy as np; from driqa_jax.data.splits import in_validation;"
        "print(np.flatnonzero(in_validation(np.array([f'scene{i:05d}' for i in range(30)]))).tolist())"
    )
    for salt in ("1", "2"):  # Python's own hash of a str differs between these
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(HELD_OUT)


def test_groups_are_never_parted():
    source = open_source("fake", count=60)
    fit, val = select(source, "train/fit"), select(source, "train/val")
    assert not set(fit.column("group")) & set(val.column("group"))
    names = [*fit.column("image_id"), *val.column("image_id")]
    assert sorted(names) == sorted(select(source, "train").column("image_id"))
    assert len(val) == 4  # 2 of 24 train scenes, a tenth, rounded; each of two pictures
    other = select(source, "train/val", seed=1)
    assert set(other.column("group")) != set(val.column("group"))


def test_a_picture_moves_into_the_fold_with_its_group_however_the_rows_are_ordered():
    shuffled = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(in_validation(GROUPS)[shuffled], in_validation(GROUPS[shuffled]))


def test_novel_leaves_out_groups_that_other_splits_hold(folder):
    source = opened(folder, "image,mos,split,group\na.png,0,train,x\nb.png,1,test,x\nsub/c.png,1,test,y\n")
    assert select(source, "test/novel").column("image_id").tolist() == ["sub/c.png"]
    assert select(source, "test").column("image_id").tolist() == ["b.png", "sub/c.png"]
    assert len(select(source, "all")) == 3
    assert select(source, "all", min_mos=0.5).column("image_id").tolist() == ["b.png", "sub/c.png"]


def test_an_empty_part_names_the_splits_there_are(folder):
    source = opened(folder, "image,mos,split\na.png,0,train\nb.png,1,0\nsub/c.png,1,test\n")
    with pytest.raises(DataError, match=r"no picture in 'val'; its splits are: test \(1\), train \(2\)"):
        select(source, "val")
    with pytest.raises(ValueError, match="unknown part 'half' in 'train/half'"):
        select(source, "train/half")


def test_bytes_are_those_of_the_file(folder):
    data = io.BytesIO()
    Image.new("RGB", (5, 5)).save(data, "GIF")
    (folder / "odd.png").write_bytes(data.getvalue())
    assert opened(folder, "image,mos\nodd.png,1\n")[0]["image"] == data.getvalue()
