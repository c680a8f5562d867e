"""`driqa score` on ten thousand files, and on an impatient user: real processes, a model of a few parameters."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from fake_model import METADATA, FakeModel, fake_params, picture
from PIL import Image
from test_cli import driqa

from driqa_jax.inference.scorer import Scorer

SMALL = {**METADATA, "view": {"short": 32, "long": 64, "tile": 16, "tiles": 1, "canvases": [[32, 32], [32, 64]]}}
BROKEN_EVERY = 100

# The command in a process of its own, with a fake model; "slow" has each picture take a moment on the device.
COMMAND = """
import sys, time
sys.path.insert(0, "tests")
from fake_model import fake_scorer
import driqa_jax.inference.scorer as scoring
scorer = fake_scorer()
if sys.argv[1] == "slow":
    run = scorer.executor.predictions
    scorer.executor.predictions = lambda batch: (time.sleep(0.05), run(batch))[1]
scoring.load = lambda *a, **k: scorer
from driqa_jax.cli.main import entry
sys.argv[1:] = sys.argv[2:]
entry()
"""


def start(root, how, *words):
    command = [sys.executable, "-c", COMMAND, how, "score", *map(str, words)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_rows(folder, count, process):
    """Until the part of s.csv holds so many lines."""
    part, ends = folder / ".s.csv.part", time.monotonic() + 120
    while time.monotonic() < ends and process.poll() is None:
        if part.exists() and len(part.read_bytes().splitlines()) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    Image.fromarray(picture(40, 50, 1)).save(folder / "000.png")
    for i in range(1, 400):
        os.link(folder / "000.png", folder / f"{i:03}.png")
    return folder


@pytest.mark.parametrize("files", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_files_one_in_a_hundred_broken(files, tmp_path, monkeypatch, capsys):
    scorer = Scorer(FakeModel(), fake_params(), SMALL)
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: scorer)
    photos = tmp_path / "photos"
    photos.mkdir()
    shades = {}
    for shade in range(10):
        Image.fromarray(np.full((32, 40, 3), 20 + 20 * shade, np.uint8)).save(photos / f"shade{shade}.bmp")
        shades[shade] = scorer(photos / f"shade{shade}.bmp")
    names = [f"{i:05}.bmp" for i in range(files)]
    bad = (photos / "shade0.bmp").read_bytes()[:40]
    for i, name in enumerate(names):
        if i % BROKEN_EVERY == 7:
            (photos / name).write_bytes(bad)
        else:
            os.link(photos / f"shade{i % 10}.bmp", photos / name)
    for shade in shades:
        (photos / f"shade{shade}.bmp").unlink()
    code, out, err = driqa("score", photos, "-o", tmp_path / "s.csv", capsys=capsys)
    with open(tmp_path / "s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert code == 1 and f"{files * 99 // 100} scored, {files // 100} failed" in err
    assert [row["path"] for row in rows] == [f"{photos}/{name}" for name in names]
    for i, row in enumerate(rows):
        if i % BROKEN_EVERY == 7:
            assert row["score"] == "" and row["error"]
        else:
            assert float(row["score"]) == shades[i % 10] and row["error"] == ""
    listed = [line.split(": ")[0] for line in err.splitlines() if line.startswith(str(photos))]
    assert listed == [row["path"] for row in rows if row["error"]]


def test_ctrl_c_ends_within_a_second_and_kill_9_loses_nothing(root, folder, tmp_path):
    (tmp_path / "killed").mkdir()
    whole = start(root, "fast", folder, "-o", tmp_path / "whole.csv")
    stopped = start(root, "slow", folder, "-o", tmp_path / "s.csv")
    killed = start(root, "slow", folder, "-o", tmp_path / "killed" / "s.csv")
    wait_for_rows(tmp_path, 5, stopped)
    stopped.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = stopped.communicate(timeout=60)
    took = time.monotonic() - began
    assert stopped.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert took < (1 if os.getloadavg()[0] < os.cpu_count() else 20), f"{took:.1f} s"
    meta = json.loads((tmp_path / "s.meta.json").read_text())
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert meta["complete"] is False and meta["rows"] == len(rows) - 1 >= 4
    wait_for_rows(tmp_path / "killed", 5, killed)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed" / "s.csv").exists()
    files = tmp_path / "s.csv", tmp_path / "killed" / "s.csv"
    again = [start(root, "fast", folder, "-o", file, "--resume") for file in files]
    assert whole.wait(120) == 0
    for process in again:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and "rows kept" in err, err
    expected = (tmp_path / "whole.csv").read_bytes()
    assert [file.read_bytes() for file in files] == [expected, expected]
    whole.stdout.close(), whole.stderr.close()


def test_a_second_ctrl_c_ends_at_once(root, folder, tmp_path):
    # What the first Ctrl-C has the command do takes for ever here.
    hang = (
        "import driqa_jax.reports.score_file as outputs\n"
        "def hang(*unused):\n"
        "    open(sys.argv[-1] + '.hangs', 'w').close()\n"
        "    time.sleep(600)\n"
        "outputs.ScoreFile.__exit__ = hang\n"
    )
    code = COMMAND.replace("\nentry()", "\n" + hang + "entry()")
    command = [sys.executable, "-c", code, "fast", "score", "-", "-o", str(tmp_path / "s.csv")]
    process = subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdin.write(f"{folder}/000.png\n")
    process.stdin.flush()
    wait_for_rows(tmp_path, 2, process)
    process.send_signal(signal.SIGINT)
    ends = time.monotonic() + 60
    while not (tmp_path / "s.csv.hangs").exists() and time.monotonic() < ends:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == -signal.SIGINT
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
