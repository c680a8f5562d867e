"""`driqa data`: what is there, what is missing, and a prepared set that training can read."""

import signal
import subprocess
import sys

import pytest
from PIL import Image
from test_biq2021 import TEST, TRAIN, write_biq2021

from driqa_jax.cli import main as cli
from driqa_jax.data.datasets import biq2021
from driqa_jax.data.open import open_source
from driqa_jax.errors import DataError


@pytest.fixture
def authors(tmp_path, monkeypatch):
    """The authors' folder, small; seven pictures are then all there are."""
    monkeypatch.setitem(biq2021.LAYOUT.counts, "train", len(TRAIN))
    monkeypatch.setitem(biq2021.LAYOUT.counts, "test", len(TEST))
    return write_biq2021(tmp_path / "BIQ2021")


def driqa_data(capsys, *words):
    """Exit code, standard output, standard error."""
    try:
        code = cli.main(["data", *map(str, words)])
    except SystemExit as leave:  # argparse
        code = leave.code
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("action", ["check", "prepare"])
def test_each_help_shows_an_example_and_imports_neither_jax_nor_numpy(root, action):
    code = (
        "import sys\n"
        "from driqa_jax.cli import main as cli\n"
        f"try: cli.main(['data', '{action}', '--help'])\n"
        "except SystemExit as leave: assert leave.code == 0\n"
        "assert not {'jax', 'numpy', 'PIL', 'tensorflow_datasets', 'rich'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f":\n  driqa data {action} biq2021 --data-dir" in done.stdout


def test_a_complete_set_passes(authors, capsys):
    code, out, err = driqa_data(capsys, "check", "biq2021", "--data-dir", authors)
    assert code == 0 and err == ""
    assert out.splitlines() == [
        "train: 5 of 5 ratings, 5 images",
        "test: 2 of 2 ratings, 2 images",
        "raw scores: 0.125 to 1 (MOS, 0 to 1); 0 is worst, 1 best",
        f"biq2021 is complete; next: driqa data prepare biq2021 --data-dir {authors}",
    ]


def test_a_missing_image_and_a_missing_row_are_reported(authors, capsys, monkeypatch):
    monkeypatch.setitem(biq2021.LAYOUT.counts, "train", 6)
    (authors / "Images" / "ss03 (6).jpg").unlink()
    code, out, _ = driqa_data(capsys, "check", "biq2021", "--data-dir", authors)
    assert code == 1 and "complete" not in out
    assert out.splitlines() == [
        "train: 5 of 6 ratings, 5 images",
        "test: 2 of 2 ratings, 1 images",
        "raw scores: 0.125 to 1 (MOS, 0 to 1); 0 is worst, 1 best",
        "  train: 5 ratings, expected 6",
        "  Test (Images and MOS).csv, line 3: 'ss03 (6).jpg' is not in Images",
    ]


def test_a_missing_folder_or_file_is_one_defect_and_the_rest_is_checked(authors, capsys):
    (authors / "Images").rename(authors / "Pictures")
    code, out, _ = driqa_data(capsys, "check", "biq2021", "--data-dir", authors)
    assert code == 1 and "train: 5 of 5 ratings, 0 images" in out
    assert out.count("\n  ") == 1 and f"{authors / 'Images'}: no such folder" in out
    (authors / "Pictures").rename(authors / "Images")
    (authors / biq2021.SPLITS["test"]).unlink()
    code, out, _ = driqa_data(capsys, "check", "biq2021", "--data-dir", authors)
    assert code == 1 and "train: 5 of 5 ratings, 5 images\ntest: 0 of 2 ratings, 0 images\n" in out
    assert out.count("\n  ") == 1 and "Test (Images and MOS).csv: no such file" in out


def test_many_defects_are_counted(authors, capsys, monkeypatch):
    monkeypatch.setattr("driqa_jax.cli.data._SHOWN", 2)
    for file in (authors / "Images").iterdir():
        file.unlink()
    code, out, _ = driqa_data(capsys, "check", "biq2021", "--data-dir", authors)
    assert code == 1 and out.count("is not in Images") == 2 and out.endswith("  and 5 more\n")


def test_broken_images_are_found_only_with_decode(authors, capsys):
    broken = authors / "Images" / "ss03 (4).jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    assert driqa_data(capsys, "check", "biq2021", "--data-dir", authors)[0] == 0
    code, out, err = driqa_data(capsys, "check", "biq2021", "--data-dir", authors, "--decode")
    assert code == 1 and f"  {broken}: damaged or truncated" in out
    assert "decoding: 7 of 7" in err


def test_an_empty_folder_an_unknown_name_and_usage_errors_exit_2(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "absent"):
        code, out, err = driqa_data(capsys, "check", "biq2021", "--data-dir", folder)
        assert code == 2 and out == ""
        assert f"driqa data: {folder}: nothing of BIQ2021 is here; expected 'Images'" in err
        code, out, err = driqa_data(capsys, "prepare", "biq2021", "--data-dir", folder)
        assert code == 2 and out == "" and ("nothing of BIQ2021 is here" in err or "no such folder" in err)
    for words in (["prepare", "biq2012", "--data-dir", tmp_path], ["prepare", "biq2021"], ["look"], []):
        code, out, err = driqa_data(capsys, *words)
        assert code == 2 and out == "" and "usage: driqa data" in err
    for words in (["check", "biq2012", "--data-dir", tmp_path], ["check", "biq2021"]):
        code, out, err = driqa_data(capsys, *words)
        assert code == 2 and out == "" and "biq2021" in err and err.count("\n") == 1


def test_a_custom_csv_is_checked(tmp_path, capsys):
    for name, data in (("a.png", None), ("b.png", b"no picture")):
        Image.new("RGB", (8, 8)).save(tmp_path / name) if data is None else (tmp_path / name).write_bytes(data)
    (tmp_path / "r.csv").write_text("image,std,mos\na.png,.1,2\nb.png,.2,4\n")
    code, out, err = driqa_data(capsys, "check", tmp_path / "r.csv", "--mos-range", 5, 1)
    assert (code, out) == (0, "train: 2 ratings\n")
    assert "column 'mos', 2 to 4, on a scale from 5 (worst) to 1 (best): lower is better" in err
    code, out, _ = driqa_data(capsys, "check", tmp_path / "r.csv", "--mos-range", 5, 1, "--decode")
    assert code == 1 and "r: b.png: " in out and "a.png" not in out
    code, _, err = driqa_data(capsys, "check", tmp_path / "r.csv")
    assert code == 2 and "--mos-range 1 5" in err


def test_prepare_prints_how_to_train_and_keeps_a_prepared_set(authors, tmp_path, capsys):
    code, out, err = driqa_data(capsys, "prepare", "biq2021", "--data-dir", authors)
    where = f"{authors}/tfds/biq2021/1.2.0; train on it with --config.data.path={authors}/tfds\n"
    assert code == 0 and out == f"biq2021 is in {where}"
    assert "looking for siblings: 7 of 7\n" in err and err.endswith("writing: 7 of 7\n")
    assert len(open_source("tfds", f"{authors}/tfds", "biq2021")) == 7
    code, out, err = driqa_data(capsys, "prepare", "biq2021", "--data-dir", authors)
    assert code == 0 and err == "" and out == f"biq2021 was prepared already: it is in {where}"
    code, out, _ = driqa_data(capsys, "prepare", "biq2021", "--data-dir", authors, "--out", tmp_path / "other")
    assert code == 0 and f"--config.data.path={tmp_path / 'other'}\n" in out


def test_a_failed_preparation_gives_the_reason_and_exits_2(authors, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    code, out, err = driqa_data(capsys, "prepare", "biq2021", "--data-dir", authors, "--out", tmp_path / "file")
    assert code == 2 and out == "" and "file" in err and "nothing was prepared" in err
    (authors / "Images" / "ss03 (6).jpg").unlink()
    code, out, err = driqa_data(capsys, "prepare", "biq2021", "--data-dir", authors)
    assert code == 2 and out == "" and "Test (Images and MOS).csv, line 3: 'ss03 (6).jpg' is not in Images" in err


def test_a_split_below_a_file_cannot_be_written_and_says_so_in_a_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    code, _, err = driqa_data(capsys, "split", "fake", "--hash", "0", "-o", tmp_path / "file" / "s.json")
    assert code == 2 and err == f"driqa data: {tmp_path}/file/s.json: cannot be written (Not a directory)\n"


# Writes the first picture, says so, and waits to be stopped.
STOPPED = """
import sys, time
from driqa_jax.cli import main as cli
from driqa_jax.data.datasets import layout_of
from driqa_jax.data.datasets._tfds_builder import RatedImages
layout_of("biq2021").counts.update(train=5, test=2)
examples = RatedImages._generate_examples
def slow(self, *args):
    for example in examples(self, *args):
        yield example
        print("one is written", flush=True, file=sys.__stdout__)
        time.sleep(60)
RatedImages._generate_examples = slow
sys.exit(cli.main(["data", "prepare", "biq2021", "--data-dir", sys.argv[1], "--out", sys.argv[2]]))
"""


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_preparation_leaves_no_partial_set(authors, tmp_path, capsys, number, code):
    out = tmp_path / "out"
    running = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(authors), str(out)], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout.readline() == "one is written\n"
    running.send_signal(number)
    assert running.wait(20) == code
    with pytest.raises(DataError, match="no prepared set here"):
        open_source("tfds", str(out), "biq2021")
    assert number == signal.SIGKILL or not list(out.glob("biq2021/*"))
    assert driqa_data(capsys, "prepare", "biq2021", "--data-dir", authors, "--out", out)[0] == 0
    assert len(open_source("tfds", str(out), "biq2021")) == 7
