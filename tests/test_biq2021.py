"""BIQ2021 from a small folder in its authors' layout, with its traps, to records and back."""

import csv
import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from driqa_jax.data.datasets import biq2021
from driqa_jax.data.datasets._layout import find_images
from driqa_jax.data.decode import decode
from driqa_jax.data.open import open_source
from driqa_jax.data.prepare import prepare
from driqa_jax.data.splits import select
from driqa_jax.errors import DataError

# (name in the CSV, scene, MOS). Scene 0 stands in train twice and in test once, once mirrored.
TRAIN = [
    ("ss01 (1).jpg", 0, 0.91),
    ("ss02 (1014).jpg", 1, 0.25),
    ("ss03 (2).jpg", 2, 0.5),
    ("ss03 (3).jpg", 0, 0.9),
    ("ss03 (4).jpg", 3, 0.125),
]
TEST = [("ss01 (5).jpg", 0, 0.92), ("ss03 (6).jpg", 4, 1.0)]


def scene(number):
    rough = np.random.default_rng(number).random((64, 64, 3))
    smooth = gaussian_filter(rough, (4, 4, 0))
    return Image.fromarray(np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth)))


def write_labels(folder, split, rows):
    text = "".join(f"{name},{mos},,\r\n" for name, _, mos in rows)
    (folder / biq2021.SPLITS[split]).write_bytes(b"\xef\xbb\xbf" + f"Image Name,MOS,,\r\n{text},,,\r\n".encode())


def write_biq2021(folder):
    """The authors' layout: a BOM, trailing empty cells, a name whose case differs, an MPO named .jpg."""
    (folder / "Images").mkdir(parents=True)
    for name, number, _ in TRAIN + TEST:
        image, kind, options = scene(number), "JPEG", {}
        if name == "ss01 (5).jpg":
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if name == "ss02 (1014).jpg":
            name = "ss02 (1014).JPG"
        if name == "ss03 (2).jpg":
            kind, options = "MPO", {"save_all": True, "append_images": [scene(9)]}
        image.save(folder / "Images" / name, kind, quality=75, **options)
    write_labels(folder, "train", TRAIN)
    write_labels(folder, "test", TEST)
    return folder


@pytest.fixture(scope="module", autouse=True)
def seven_pictures_are_all_there_are():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(biq2021.LAYOUT.counts, "train", len(TRAIN))
        patch.setitem(biq2021.LAYOUT.counts, "test", len(TEST))
        yield


def read_ratings(folder):
    return list(biq2021.LAYOUT.ratings(folder))


@pytest.fixture(scope="module")
def authors(tmp_path_factory):
    return write_biq2021(tmp_path_factory.mktemp("BIQ2021"))


@pytest.fixture(scope="module")
def prepared(authors, tmp_path_factory):
    out = tmp_path_factory.mktemp("tfds")
    return out, prepare("biq2021", authors, out)


def test_the_layout_is_read_with_its_traps(authors):
    ratings = read_ratings(authors)
    assert [rating.line for rating in ratings if rating.split == "test"] == [2, 3]
    assert [(r.split, r.image_id, r.raw, r.subset) for r in ratings] == [
        *(("train", name, mos, name[:4]) for name, _, mos in TRAIN),
        *(("test", name, mos, name[:4]) for name, _, mos in TEST),
    ]
    assert find_images(biq2021.LAYOUT, authors, ratings[1:2])[0].name == "ss02 (1014).JPG"


def test_what_was_prepared_is_read_back(authors, prepared):
    source = open_source("tfds", str(prepared[0]), "biq2021")
    assert source.name == "biq2021" and len(source) == 7
    assert source.column("image_id").tolist() == [name for name, _, _ in TRAIN + TEST]
    assert source.column("split").tolist() == ["train"] * 5 + ["test"] * 2
    np.testing.assert_allclose(source.column("mos"), [mos for _, _, mos in TRAIN + TEST])
    assert source.column("subset").tolist() == [name[:4] for name, _, _ in TRAIN + TEST]
    assert set(source.column("dataset")) == {"biq2021"}
    for i in range(7):
        name = "ss02 (1014).JPG" if i == 1 else source.column("image_id")[i]
        assert source[i]["image"] == (authors / "Images" / name).read_bytes()
    with Image.open(io.BytesIO(source[2]["image"])) as image:
        assert image.format == "MPO"
    assert np.abs(decode(source[2]["image"]).astype(int) - np.asarray(scene(2))).mean() < 12


def test_repeats_and_mirror_images_share_a_group(prepared):
    source = open_source("tfds", str(prepared[0]), "biq2021")
    names = [name for name, _, _ in TRAIN + TEST]
    assert source.column("group").tolist() == [
        names[0],
        names[1],
        names[2],
        names[0],
        names[4],
        names[0],
        names[6],
    ]
    assert select(source, "test/novel").column("image_id").tolist() == ["ss03 (6).jpg"]


def test_a_second_prepare_keeps_what_is_there(authors, prepared):
    out, folder = prepared
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    assert prepare("biq2021", authors, out) == folder
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()} == before


def test_what_is_not_prepared_says_how(tmp_path):
    with pytest.raises(DataError, match="driqa data prepare biq2021 --data-dir"):
        open_source("tfds", str(tmp_path), "biq2021")
    with pytest.raises(ValueError, match="unknown data set 'biq2012'; it must be one of biq2021, csiq"):
        prepare("biq2012", tmp_path, tmp_path)


def assert_nothing_readable(out):
    with pytest.raises(DataError, match="no prepared set here"):
        open_source("tfds", str(out), "biq2021")


def test_a_missing_picture_leaves_nothing_that_could_be_read(tmp_path):
    folder = write_biq2021(tmp_path / "authors")
    (folder / "Images" / "ss01 (5).jpg").unlink()
    with pytest.raises(DataError, match=r"Test .*\.csv, line 2: 'ss01 \(5\)\.jpg' is not in Images$"):
        prepare("biq2021", folder, tmp_path / "tfds")
    assert_nothing_readable(tmp_path / "tfds")


def test_a_broken_picture_is_named(tmp_path):
    folder = write_biq2021(tmp_path / "authors")
    (folder / "Images" / "ss03 (4).jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(DataError, match=r"ss03 \(4\)\.jpg: this picture cannot be read"):
        prepare("biq2021", folder, tmp_path / "tfds")
    assert_nothing_readable(tmp_path / "tfds")


def test_an_interruption_leaves_nothing_that_could_be_read_and_the_next_try_succeeds(tmp_path, monkeypatch):
    folder = write_biq2021(tmp_path / "authors")
    from driqa_jax.data.datasets._tfds_builder import RatedImages

    examples = RatedImages._generate_examples

    def interrupted(self, *args):
        yield next(examples(self, *args))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RatedImages, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare("biq2021", folder, tmp_path / "tfds")
    assert_nothing_readable(tmp_path / "tfds")
    # A kill leaves the folder that was being written.
    (tmp_path / "tfds/biq2021/incomplete.ABC123_1.1.0").mkdir(parents=True)
    (tmp_path / "tfds/biq2021/incomplete.ABC123_1.1.0/dataset_info.json").write_text("{}")
    assert_nothing_readable(tmp_path / "tfds")
    prepare("biq2021", folder, tmp_path / "tfds")
    assert len(open_source("tfds", str(tmp_path / "tfds"), "biq2021")) == 7


@pytest.mark.parametrize(
    "rows, line, message",
    [
        (
            [("Name", "Score"), ("ss01 (1).jpg", "0.5")],
            1,
            r"has no column 'Image Name', its header is \['Name', 'Score'\]",
        ),
        ([("Image Name", "MOS", "", ""), ("ss01 (1).jpg", "good", "", "")], 2, "the score 'good'"),
        (
            [("Image Name", "MOS"), ("ss01 (1).jpg", "0.5"), ("ss02 (1014).jpg", "1.5")],
            3,
            r"1.5 .*not in \[0, 1\]",
        ),
        ([("Image Name", "MOS"), ("ss01 (1).jpg", "nan")], 2, r"nan .*not in \[0, 1\]"),
        ([("Image Name", "MOS"), ("ss01 (1).jpg",)], 2, "the score ''"),
        ([("Image Name", "MOS"), ("", "0.5")], 2, "has no image name"),
        (
            [("Image Name", "MOS"), ("ss01 (1).jpg", "0.5"), ("SS01 (1).jpg", "0.5")],
            3,
            r"is already listed in Train \(Images and MOS\)\.csv, line 2",
        ),
    ],
)
def test_every_defect_of_the_labels_is_named_by_file_and_line(tmp_path, rows, line, message):
    folder = write_biq2021(tmp_path)
    file = folder / biq2021.SPLITS["train"]
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows(rows)
    with pytest.raises(DataError, match=message) as caught:
        read_ratings(folder)
    assert (caught.value.file, caught.value.line) == (str(file), line)


def test_an_empty_label_file_and_one_that_is_absent(tmp_path):
    folder = write_biq2021(tmp_path)
    file = folder / biq2021.SPLITS["test"]
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"Test \(Images and MOS\)\.csv, line 1: has no column 'Image Name'"):
        read_ratings(folder)
    file.write_text("Image Name,MOS,,\n,,,\n")
    with pytest.raises(DataError, match="line 1: has no ratings"):
        read_ratings(folder)
    file.unlink()
    with pytest.raises(DataError, match=r"Test \(Images and MOS\)\.csv: no such file"):
        read_ratings(folder)
