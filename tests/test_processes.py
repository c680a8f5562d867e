"""Several processes are one run: the same examples, losses, validation and checkpoint as one process alone."""

import json
import re
import signal

import numpy as np
import pytest
from processes import free_port, places, run, train
from test_train import lines, saved

from driqa_jax.distributed.processes import ProcessSpec, parse
from driqa_jax.errors import UserError

RELATIVE = 1e-5  # sums over hosts have another order
DEAD = 20  # seconds after which nobody is left once one process is


def require_success(ended):
    assert [process.code for process in ended] == [0] * len(ended), ended
    return ended


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with 8 devices: workdir and how it ended."""
    workdir = tmp_path_factory.mktemp("alone")
    return workdir, require_success(train(workdir, devices=8, distributed=("auto",)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two processes with 4 devices each."""
    workdir = tmp_path_factory.mktemp("pair")
    return workdir, require_success(train(workdir, devices=4, distributed=places(2)))


def examples(workdir, processes):
    """The examples of each step, in the order of the global batch; a stream may have read ahead of the last step."""
    steps = zip(
        *((workdir / f"examples-{process}.txt").read_text().splitlines() for process in range(processes)), strict=False
    )
    return [[int(each) for part in step for each in part.split()] for step in steps]


def compared(one, other, relative=RELATIVE):
    """Require the same log of two workdirs; yields each leaf's path and relative distance in their last checkpoints."""
    first, second = (
        [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines(workdir)]
        for workdir in (one, other)
    )
    assert [line.keys() for line in first] == [line.keys() for line in second]
    for before, after in zip(first, second, strict=True):
        for name, value in before.items():
            # The log has 6 digits.
            assert after[name] == pytest.approx(value, rel=max(relative, 2e-6), abs=1e-6), (before, after)
    states = saved(one, first[-1]["step"]), saved(other, first[-1]["step"])
    assert states[0].keys() == states[1].keys()
    for path, leaf in states[0].items():
        if "/key/bias" in path:
            continue  # it moves all logits of a query alike: its gradient is nothing but rounding
        apart, size = (np.linalg.norm(np.asarray(x, np.float64)) for x in (states[1][path] - leaf, leaf))
        yield path, apart / size if size else apart


@pytest.mark.long
def test_two_processes_are_given_the_examples_of_one(alone, pair):
    one, two = examples(alone[0], 1), examples(pair[0], 2)
    steps = [list(range(16 * step, 16 * step + 16)) for step in range(4)]
    assert one[:4] == two[:4] == steps


@pytest.mark.long
def test_two_processes_lose_validate_and_save_as_one_does(alone, pair):
    apart = dict(compared(alone[0], pair[0]))
    assert len(apart) > 100
    worst = max(apart, key=apart.get)
    print(f"furthest apart: {worst}, {apart[worst]:.1e}")
    assert apart[worst] < 1e-3, (worst, apart[worst])
    assert np.median(list(apart.values())) < RELATIVE


@pytest.mark.long
def test_only_the_first_process_writes_and_speaks(pair):
    workdir, (first, second) = pair
    written = {path.name for path in workdir.iterdir() if not path.name.startswith((".", "examples-"))}
    assert written >= {"config.json", "metrics.jsonl", "curves.png", "checkpoints"}
    assert "step 4" in first.said and "on 8 cpu device(s), 2 process(es)" in first.said
    assert "step 4" not in second.said and "images" not in second.said
    assert "ended early" not in first.said + second.said


@pytest.mark.long
def test_without_a_cluster_auto_is_one_process_and_says_so(alone):
    assert "one process: no cluster was found to join" in alone[1][0].said


def told(ended):
    """What a process of `process_steps` has printed as JSON, together."""
    objects = [json.loads(line) for line in ended.said.splitlines() if line.startswith("{")]
    return {name: value for each in objects for name, value in each.items()}


SCENES = {"term": (1, signal.SIGTERM), "ctrl_c": (0, signal.SIGINT), "error": (1, 0), "wrong": (-1, 0)}
SCENES |= {"kill_0": (0, signal.SIGKILL), "kill_1": (1, signal.SIGKILL)}


@pytest.fixture(scope="module")
def scenes():
    """Both processes of each of SCENES, all run side by side."""
    scripts = [
        ["process_steps.py", place, str(int(victim)), str(int(number))]
        for victim, number in SCENES.values()
        for place in places(2)
    ]
    ended = run(scripts)
    return {name: ended[2 * place : 2 * place + 2] for place, name in enumerate(SCENES)}


def test_both_executors_step_over_two_processes_as_over_one(scenes):
    for process in scenes["term"]:
        found = told(process)
        assert found["devices"] == 8 and found["hosts"] == [[0], [1]] and found["said"] == [True, False]
        assert found["batch"] == list(range(1, 17))
        assert found["shard_map"] == found["pmap"] == [[356.0, 356.0], 136.0, True]


@pytest.mark.parametrize("scene, codes", [("term", [143, 143]), ("ctrl_c", [130, 143])])
def test_a_signal_to_one_process_stops_all_at_the_same_step(scene, codes, scenes):
    assert [process.code for process in scenes[scene]] == codes, scenes[scene]
    first, second = (told(process)["stopped"] for process in scenes[scene])
    assert first == second >= 5


@pytest.mark.parametrize("scene", ["kill_0", "kill_1", "error"])
def test_a_dead_process_ends_the_other_within_20_seconds_saying_how_to_go_on(scene, scenes):
    victim, number = SCENES[scene]
    dead, other = scenes[scene][victim], scenes[scene][1 - victim]
    assert dead.code == (-number or 1) and other.code in (1, -signal.SIGABRT), scenes[scene]
    print(f"{scene}: the other ended after {other.moment - dead.moment:.1f} s, {other.code}")
    assert other.moment - dead.moment < DEAD
    for index, process in ((victim, dead), (1 - victim, other)):
        assert f"process {index} of 2 has ended early" in process.said and "to resume from" in process.said


def test_what_is_wrong_everywhere_is_told_by_every_process(scenes):
    assert [process.code for process in scenes["wrong"]] == [2, 2], scenes["wrong"]
    for process in scenes["wrong"]:
        assert "driqa train: nothing to do" in process.said and "ended early" not in process.said


@pytest.mark.long
def test_sigterm_to_one_process_saves_and_stops_all_at_the_same_step(tmp_path):
    scene = {"pause": 0.2, "raise": [1, 3, signal.SIGTERM]}
    words = ("--config.steps=200", "--config.eval_every=0")
    ended = train(tmp_path, *words, distributed=places(2), scene=scene)
    assert [process.code for process in ended] == [143, 143], ended
    said = {line for process in ended for line in process.said.splitlines() if line.startswith("stopped at step")}
    assert len(said) == 1, ended
    step = int(said.pop().split()[3])
    assert 3 <= step < 200 and lines(tmp_path)[-1]["step"] == step
    assert saved(tmp_path, step)["['step']"] == step


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 1])
def test_a_training_goes_on_after_a_process_was_killed(victim, tmp_path):
    scene = {"pause": 0.5, "raise": [victim, 6, signal.SIGKILL]}
    words = ("--config.steps=12", "--config.eval_every=0", "--config.checkpoint.steps=2")
    ended = train(tmp_path, *words, distributed=places(2), scene=scene)
    dead, other = ended[victim], ended[1 - victim]
    assert dead.code == -signal.SIGKILL and other.code not in (0, 143), ended
    assert other.moment - dead.moment < DEAD and f"process {1 - victim} of 2 has ended early" in other.said, ended
    again = require_success(train(tmp_path, *words, distributed=places(2)))
    assert re.search("resumed at step [246]", again[0].said), again
    # The last line is that of the validation at the end.
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == list(range(1, 13))


@pytest.mark.long
def test_a_run_goes_on_with_another_number_of_processes_from_the_same_example(alone, tmp_path):
    words = ("--config.checkpoint.steps=2",)
    # Long steps: until both have agreed where to stop, some more are done.
    scene = {"pause": 2.0, "raise": [0, 1, signal.SIGTERM]}
    stopped = train(tmp_path, *words, distributed=places(2), scene=scene)
    assert {process.code for process in stopped} <= {0, 143}, stopped
    (tmp_path / "examples-0.txt").unlink()
    before = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal())
    assert before < 4, stopped
    (ended,) = require_success(train(tmp_path, *words, devices=8))
    assert f"resumed at step {before}" in ended.said
    assert examples(tmp_path, 1)[0] == examples(alone[0], 1)[before]
    assert max(dict(compared(alone[0], tmp_path)).values()) < 1e-3


@pytest.mark.long
def test_four_processes_of_a_cluster_are_found_by_auto_and_are_one_run(alone, tmp_path):
    cluster = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "4"}
    cluster["JAX_COORDINATOR_PORT"] = str(free_port())
    each = [{**cluster, "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)} for number in range(4)]
    require_success(train(tmp_path, devices=2, distributed=("auto",) * 4, env=each))
    assert examples(tmp_path, 4)[:4] == examples(alone[0], 1)[:4]
    assert max(dict(compared(alone[0], tmp_path)).values()) < 1e-3


@pytest.mark.long
def test_two_processes_under_pmap_are_one_run(alone, tmp_path):
    require_success(train(tmp_path, "--config.parallel=pmap", distributed=places(2)))
    assert max(dict(compared(alone[0], tmp_path)).values()) < 1e-3


@pytest.mark.long
def test_pretraining_in_two_processes_validates_as_in_one(tmp_path):
    words = ("--config.stage=pretrain", "--config.optim.frozen=()", "--config.pretrain.recipe.eight_bit=False")
    require_success(train(tmp_path / "one", *words, devices=8))
    require_success(train(tmp_path / "two", *words, distributed=places(2)))
    assert max(dict(compared(tmp_path / "one", tmp_path / "two", 1e-4)).values()) < 1e-3
    assert any("val_psnr_gain" in line for line in lines(tmp_path / "two"))


def test_the_place_of_a_process_is_read_and_checked():
    assert parse("auto") == "auto" and parse("off") == "off"
    assert parse("10.0.0.1:9876,4,3") == ProcessSpec("10.0.0.1:9876", 4, 3)
    assert parse("[::1]:80,1,0") == ProcessSpec("[::1]:80", 1, 0)
    for wrong in ("on", "host,2,0", "host:1,2", "host:1,2,x", ""):
        with pytest.raises(UserError, match=r"expected auto, off, or HOST:PORT,N,I"):
            parse(wrong)
    with pytest.raises(UserError, match="numbered from 0 to 1"):
        parse("host:1,2,2")
