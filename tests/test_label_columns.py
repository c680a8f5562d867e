"""Label columns are found by name, whatever their order; tables are read as spreadsheets write them."""

import codecs

import ml_collections
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from driqa_jax.data.csv_source import read_scores
from driqa_jax.data.label_tables import in_command, in_config, number, read_table, score_name
from driqa_jax.data.open import LABEL_OPTIONS, open_configured, open_source
from driqa_jax.errors import DataError

NAMES = ("a.png", "b.png", "c.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    for name in NAMES:
        Image.new("RGB", (4, 3)).save(folder / name)
    return folder


def opened(folder, text, **options):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "r.csv").write_bytes(data)
    return open_source("folder", str(folder / "r.csv"), **options)


# The column that holds the scores, among others that hold numbers too.
HEADS = [
    ("filename,std,mos", "mos"),
    ("mos,std,image", "mos"),
    ("image,score,mos", "mos"),
    ("image,c1,c2,MOS,SD,MOS_zscore", "MOS"),
    ("image,mos_std,Subjective MOS (1-5)", "Subjective MOS (1-5)"),
    ("image,votes,mean_score,score_std", "mean_score"),
    ("image,number_of_ratings,rating", "rating"),
    ("image,width,height,quality", "quality"),
    ("img_name,mean,std", "mean"),
    ("name,anything,std", "anything"),
    ("picture,anything", "anything"),
    ("meanOpinion,image", "meanOpinion"),
]


@pytest.mark.parametrize("head, column", HEADS, ids=[head for head, _ in HEADS])
def test_the_name_decides_and_the_order_never(folder, head, column):
    cells = head.split(",")
    pictures = next(
        place for place, cell in enumerate(cells) if cell in ("filename", "image", "img_name", "name", "picture")
    )
    for order in ([*range(len(cells))], [*range(len(cells))][::-1]):
        if cells[pictures] == "picture" and order != sorted(order):
            continue  # an unknown name is the picture's by its place alone
        rows = [[name if i == pictures else "0.5" if cells[i] == column else "0.125" for i in order] for name in NAMES]
        text = "\n".join(",".join(row) for row in [[cells[i] for i in order], *rows])
        source = opened(folder, text)
        assert source.column("mos").tolist() == [0.5] * 3 and f"column {column!r}" in source.labels_from


@pytest.mark.parametrize(
    "cell, name",
    [("DMOS", "dmos"), ("realigned_dmos", "dmos"), ("mosaic", None), ("atmosphere", None), ("scores", "score")]
    + [("mos_ci", None), ("rating count", None), ("imageName", None), ("meanMOS", "mos"), ("qualitative", None)],
)
def test_words_of_a_column(cell, name):
    assert score_name(cell) == name


def test_what_the_names_leave_open_is_asked_in_the_words_of_the_command(folder):
    text = "image,quality_a,quality_b\na.png,.1,.2\nb.png,.3,.4\n"
    (folder / "r.csv").write_text(text)
    for option, words in (
        (in_command, "--score-column quality_a"),
        (in_config, "--config.data.score_column=quality_a"),
    ):
        with pytest.raises(DataError, match=f"quality_a, quality_b may all .*{words}$"):
            opened(folder, text, option=option)
    source = opened(folder, text, score_column="Quality_B")
    assert source.column("mos").tolist() == [0.2, 0.4]
    with pytest.raises(DataError, match="no column called c; its columns are image, quality_a"):
        opened(folder, text, score_column="c")


@pytest.mark.parametrize(
    "text, option, words",
    [
        ("image,mos\na.png,4\n", in_command, "--mos-range 1 5, or --mos-range 100 0"),
        ("image,mos\na.png,4\n", in_config, r'--config\.data\.mos_range="\(1,5\)"'),
        ("image,dmos\na.png,.4\n", in_command, "--mos-range 1 0"),
        ("image,mos,split01,split02\na.png,.4,0,0\n", in_command, "--split-column split01"),
        ("image,mos\nabsent.png,.4\n", in_command, "--data-dir FOLDER"),
        ("image,mos\nabsent.png,.4\n", in_config, "--config.data.images=FOLDER"),
    ],
)
def test_errors_name_the_option_of_the_command(folder, text, option, words):
    with pytest.raises(DataError, match=words):
        opened(folder, text, option=option)


def test_a_configuration_has_the_options_that_errors_name(folder):
    opened(folder, "image,x,y\na.png,2,.5\nb.png,3,.5\n", score_column="x", mos_range=(1, 5))
    data = {"kind": "folder", "path": str(folder / "r.csv"), "name": "", "mos_range": (1, 5), "score_column": "x"}
    source = open_configured(ml_collections.ConfigDict(data))
    np.testing.assert_allclose(source.column("mos"), [0.25, 0.5])
    from driqa_jax.train.config import KEYS

    assert {f"data.{name}" for name in (*LABEL_OPTIONS, "mos_range")} <= set(KEYS)


@pytest.mark.parametrize(
    "data",
    [
        b"image;mos\na.png;0,5\nb.png;0,25\n",
        b"sep=;\r\nimage;mos\r\na.png;0,5\r\nb.png;0,25\r\n",
        b"image\tmos\na.png\t0,5\nb.png\t0.25\n".replace(b"0.25", b"0,25"),
        codecs.BOM_UTF16_LE + "image\tmos\r\na.png\t0,5\r\nb.png\t0,25\r\n".encode("utf-16-le"),
        b"a.png,0.5\nb.png,0.25\n",
    ],
)
def test_tables_as_spreadsheets_write_them(folder, data):
    assert opened(folder, data).column("mos").tolist() == [0.5, 0.25]


def test_scores_of_another_metric_are_found_by_name_too(folder):
    file = folder / "other.csv"
    for text in ("path,std,prediction\nx/a.png,9,1\nx/b.png,9,2\n", "image;niqe\na.png;1,0\nb.png;2,0\n"):
        file.write_text(text)
        assert read_scores(file, ["a.png", "b.png"]).tolist() == [1, 2]
    file.write_text("image,niqe,brisque\na.png,1,2\n")
    with pytest.raises(DataError, match="niqe, brisque may all hold the scores"):
        read_scores(file, ["a.png"])


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).map(str.strip)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(CELL.filter(bool), CELL), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
)
def test_a_table_comes_back_whatever_its_cells_hold(tmp_path, rows, delimiter, quoted):
    import csv

    file = tmp_path / "t.csv"
    with open(file, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
        writer.writerows([("image", "mos"), *rows])
    found, lines = read_table(file)
    assert found == delimiter
    assert [tuple(row) for _, row in lines[1:]] == rows
    assert [line for line, _ in lines] == list(range(1, len(rows) + 2))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(-1e6, 1e6), st.sampled_from([",", ";"]))
def test_numbers_are_read_with_either_decimal_mark(value, delimiter):
    text = f"{value:.6f}"
    assert number(text, delimiter) == float(text)
    assert number(text.replace(".", ","), delimiter) == (None if delimiter == "," else float(text))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CELL)
def test_what_is_no_number_is_none_and_never_an_error(cell):
    for delimiter in (",", ";"):
        value = number(cell, delimiter)
        assert value is None or isinstance(value, float)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.permutations(["image", "mos", "std", "votes", "mos_ci"]), st.lists(st.integers(0, 100), min_size=3, max_size=3)
)
def test_no_order_of_columns_changes_the_labels(folder, head, scores):
    cells = {"std": "0.1", "votes": "1", "mos_ci": "0.2"}
    rows = [
        [name if key == "image" else str(score / 100) if key == "mos" else cells[key] for key in head]
        for name, score in zip(NAMES, scores, strict=True)
    ]
    source = opened(folder, "\n".join(",".join(row) for row in [head, *rows]))
    assert source.column("mos").tolist() == [score / 100 for score in scores]
