"""Sweeps: a training a line, each in its folder, none run twice, a failure told and passed over."""

import pathlib
import shutil
import subprocess

import pytest
from launching import TRAINS, begin, calls, dry, environment, launch, stand_in, until

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="wants bash")

SWEEP = """\
# a comment, and an empty line

--config.optim.lr=1e-3
  --config.optim.lr=5e-4 --config.optim.groups="(('a/*', 0.1),)"
--config.seed=3"""

# Trains what it is told; seed 3 fails until a file says otherwise.
DRIQA = """
case "$*" in *seed=3*) [ -f "FOLDER/mended" ] || { echo "no such picture"; exit 9; } ;; esac
while [ "$1" != --workdir ]; do shift; done
mkdir -p "$2"
"""


@pytest.fixture
def sweep(tmp_path):
    stand_in(tmp_path / "bin", "driqa", DRIQA.replace("FOLDER", str(tmp_path)))
    file = tmp_path / "the sweep"
    file.write_text(SWEEP)
    return [str(file), "--", "--config", "my configs/a.py", "--workdir", str(tmp_path / "all runs")]


def test_a_sweep_dry_run_prints_a_training_a_line_each_in_its_folder(sweep):
    one, two, three = dry("sweep.sh", *sweep)
    root = sweep[-1]
    head = ["driqa", "train", "--config", "my configs/a.py"]
    assert one == [*head, "--config.optim.lr=1e-3", "--workdir", f"{root}/optim.lr=1e-3"]
    assert two[:-1] == [*head, "--config.optim.lr=5e-4", "--config.optim.groups=(('a/*', 0.1),)", "--workdir"]
    # What a folder's name had better not hold is replaced, and a checksum keeps names apart.
    name = two[-1].removeprefix(f"{root}/")
    assert name.startswith("optim.lr=5e-4,optim.groups=___a___,_0.1_,_-") and name.rpartition("-")[2].isdigit()
    assert dry("sweep.sh", "--only", "3", *sweep) == [three] and three[-1] == f"{root}/seed=3"
    assert launch("sweep.sh", "--count", *sweep).stdout == "3\n"


def test_a_sweep_goes_on_after_a_failure_and_runs_nothing_twice(sweep, tmp_path):
    env = environment(tmp_path / "bin")
    done = launch("sweep.sh", *sweep, env=env, code=1)
    assert "failed, code 9" in done.stderr and "no such picture" in done.stderr
    assert done.stdout.splitlines()[-1] == "2 of 3 finished, 1 failed"
    assert len(calls(tmp_path / "bin", "driqa")) == 3
    (tmp_path / "mended").touch()
    again = launch("sweep.sh", *sweep, env=env).stdout
    assert again.count("already finished") == 2 and "3 of 3 finished, 0 failed" in again
    assert [words[3] for words in calls(tmp_path / "bin", "driqa")[3:]] == ["--config.seed=3"]
    # Another command is another run.
    launch("sweep.sh", *sweep, "--config.steps=5", env=env)
    assert len(calls(tmp_path / "bin", "driqa")) == 7


def test_a_job_of_an_array_runs_its_line_and_ends_as_it_ends(sweep, tmp_path):
    env = environment(tmp_path / "bin", SLURM_ARRAY_TASK_ID="3")
    assert "no such picture" in launch("sweep.sh", "--array-task", *sweep, env=env, code=9).stdout
    (words,) = calls(tmp_path / "bin", "driqa")
    assert words[3] == "--config.seed=3"


def test_a_stopped_sweep_saves_and_starts_no_other(request, sweep, tmp_path):
    stand_in(tmp_path / "bin", "driqa", TRAINS)
    process = begin(request, "sweep.sh", *sweep, env=environment(tmp_path / "bin"), stderr=subprocess.PIPE, text=True)
    log = pathlib.Path(sweep[-1], "optim.lr=1e-3.log")
    until(lambda: log.exists() and "trains" in log.read_text())
    process.terminate()
    assert "the same command goes on" in process.communicate(timeout=60)[1] and process.returncode == 143
    assert log.read_text() == "trains\nsaved\n" and len(calls(tmp_path / "bin", "driqa")) == 1


@pytest.mark.parametrize(
    "text, said",
    [
        ("--config.seed=1\n--config.seed=1\n", "line 2: the same run as an earlier line"),
        ("lr=1\n", "line 1: 'lr=1' is not --config.KEY=VALUE"),
        ("--config.a='x\n", "line 1: a quote is not closed"),
        ("# nothing\n", "no line with overrides"),
    ],
)
def test_a_sweep_that_cannot_be_read_runs_nothing(sweep, tmp_path, text, said):
    pathlib.Path(sweep[0]).write_text(text)
    assert said in launch("sweep.sh", *sweep, env=environment(tmp_path / "bin"), code=2).stderr
    assert calls(tmp_path / "bin", "driqa") == []
