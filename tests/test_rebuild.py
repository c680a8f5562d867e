"""launch/rebuild_lite.sh: what it would run, the list of rated images that it writes, and what it refuses."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest
from PIL import Image
from test_biq2021 import TRAIN, write_biq2021

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "launch" / "rebuild_lite.sh"


@pytest.fixture
def folders(tmp_path):
    write_biq2021(tmp_path / "BIQ2021")
    (tmp_path / "pristine").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "pristine" / "a.png")
    return [str(tmp_path / name) for name in ("BIQ2021", "pristine", "runs")]


def rebuild(*words, **variables):
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, **variables}
    return subprocess.run([SCRIPT, *words], capture_output=True, text=True, env=env)


def test_a_dry_run_prints_both_commands_and_writes_nothing(folders):
    done = rebuild("--dry-run", *folders)
    assert done.returncode == 0, done.stderr
    fit, evaluation = (shlex.split(line) for line in done.stdout.splitlines())
    data, pristine, runs = folders
    assert fit[:9] == [
        *("python", "-m", "experiments.deduction", "--rated", f"{data}/Images/rated.csv", "--pristine", pristine),
        *("--encoder", "lite-0.5"),
    ]
    assert fit[fit.index("--unlabeled") + 1] == f"{data}/Images/unlabeled.csv"
    assert pathlib.Path(fit[fit.index("--seen") + 1]).is_file()
    assert fit[-2:] == ["-o", f"{runs}/lite.safetensors"] and fit[fit.index("--licence") + 1]
    assert evaluation[:4] == ["driqa", "evaluate", "--model", f"{runs}/lite.safetensors"]
    assert not pathlib.Path(runs).exists() and not pathlib.Path(data, "Images", "rated.csv").exists()


def test_the_list_has_the_training_images_of_two_subsets(folders, tmp_path):
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ncase "$1" in -) echo terms ;; *) echo "$@" >&2 ; exit 3 ;; esac\n')
    program.chmod(0o755)
    done = rebuild(*folders, PATH=f"{program.parent}:{os.environ['PATH']}")
    assert done.returncode == 3 and "--licence terms" in done.stderr
    head, *rows = pathlib.Path(folders[0], "Images", "rated.csv").read_text().splitlines()
    expected = [name for name, *_ in TRAIN if not name.startswith("ss02")]
    assert head == "image,mos" and [row.split(",")[0] for row in rows] == expected
    assert len(expected) < len(TRAIN) and all(0 <= float(row.split(",")[1]) <= 1 for row in rows)
    head, *rows = pathlib.Path(folders[0], "Images", "unlabeled.csv").read_text().splitlines()
    assert head == "image,mos" and [row.split(",")[0] for row in rows] == ["ss02 (1014).JPG"]


def test_missing_inputs_are_named(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    for words, said in [
        (folders[:2], "three folders are needed"),
        (["--fast", *folders], "--fast: no such option"),
        ([str(tmp_path / "empty"), *folders[1:]], "Train (Images and MOS).csv: cannot be read"),
        ([folders[0], str(tmp_path / "none"), folders[2]], "none: no such folder"),
        ([folders[0], str(tmp_path / "empty"), folders[2]], "has no PNG or JPEG photograph"),
    ]:
        done = rebuild(*words)
        assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
