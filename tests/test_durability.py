"""Never lose a run: kills, signals, corrupt checkpoints, a full disk, other devices. Tests are named for guarantees."""

import contextlib
import functools
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from durable_run import POINTS, configured, stage
from orbax.checkpoint._src.path.atomicity import AtomicRenameTemporaryPath

from driqa_jax import distributed
from driqa_jax.checkpoints import manager
from driqa_jax.checkpoints.load import load
from driqa_jax.checkpoints.manager import Checkpoints, create
from driqa_jax.cli.main import main
from driqa_jax.errors import UserError
from driqa_jax.models import driqa
from driqa_jax.train import loop, telemetry
from driqa_jax.train.telemetry import MetricLog

TESTS = pathlib.Path(__file__).resolve().parent
INTERVAL, STEPS = 3, 42
SEED = 20411
KILLS = int(os.environ.get("DRIQA_TEST_KILLS", "6"))  # 24 take four times as long
CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}


class Run:
    """A process that trains in `workdir`; what it said, and the last step that it told of."""

    def __init__(self, workdir, *words):
        command = [sys.executable, str(TESTS / "durable_run.py"), str(workdir), *map(str, words)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **CACHE})
        self.said, self.resumed, self.step = "", 0, 0

    def __iter__(self):
        for line in self.process.stderr:
            self.said += line
            if found := re.match(r"resumed at step (\d+)", line):
                self.resumed = self.step = int(found[1])
            if found := re.match(r"step (\d+) .*loss", line):
                self.step = int(found[1])
                yield self.step

    def end(self):
        """The exit code; negative for a signal."""
        for _ in self:
            pass
        return self.process.wait(timeout=60)


def arrays(workdir, step=STEPS):
    state = manager.read(workdir / "checkpoints" / str(step))[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def as_bytes(workdir, step=STEPS):
    return {path: (leaf.dtype, leaf.shape, leaf.tobytes()) for path, leaf in arrays(workdir, step).items()}


def log_of(workdir):
    """The lines of a log but for the speeds; each has to be strict JSON."""

    def refused(constant):
        raise ValueError(f"{constant} is not JSON")

    lines = [json.loads(x, parse_constant=refused) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The workdir of a run that nothing has disturbed."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    run = Run(workdir)
    assert run.end() == 0, run.said
    return workdir


def requires_same(workdir, undisturbed, steps=STEPS):
    assert len(as_bytes(undisturbed, steps)) > 8
    assert as_bytes(workdir, steps) == as_bytes(undisturbed, steps)
    assert log_of(workdir) == log_of(undisturbed)
    assert not list((workdir / "checkpoints").glob("*tmp*"))


@pytest.mark.long
def test_a_kill_at_each_named_point_costs_no_checkpoint_and_no_byte(tmp_path, undisturbed):
    for point in POINTS:
        run = Run(tmp_path, "--kill", point)
        assert run.end() == -signal.SIGKILL, run.said
        left = manager.steps_in(tmp_path / "checkpoints")
        print(f"killed at {point!r}, after step {run.step}; checkpoints of steps {left}")
        # The third save is what counts, or the third deletion: two are due at the first save, since the kill before
        # has left one. Nothing is promised of the save that is under way, and all of the one before.
        saves = {"write": 2, "commit": 2, "renamed": 3, "delete": 2, "log": 0}[point]
        assert left[0] == run.resumed + saves * INTERVAL, run.said
        assert run.step - left[0] <= 2 * INTERVAL
        assert len(left) == (2 if point in ("write", "commit") else 3)
    run = Run(tmp_path, "--pause", 0.05)
    next(iter(run))  # a step is done
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 128 + signal.SIGTERM
    stopped = int(re.search(r"stopped at step (\d+) of 42, saved", run.said)[1])
    run = Run(tmp_path)
    assert run.end() == 0 and run.resumed == stopped, run.said
    requires_same(tmp_path, undisturbed)


@pytest.mark.long
def test_kills_at_random_moments_cost_no_checkpoint_and_no_byte(tmp_path):
    steps, rng = 360, random.Random(SEED)
    words = ("--pause", 0.03, f"steps={steps}")
    first = Run(tmp_path / "undisturbed", *words)
    assert first.end() == 0, first.said
    workdir, kills, newest = tmp_path / "killed", 0, 0
    while kills < KILLS:
        after, delay = rng.randint(1, 2 * INTERVAL), rng.uniform(0, 0.15)
        run = Run(workdir, *words)
        seen = sum(1 for _ in zip(range(after), run, strict=False))
        time.sleep(delay)
        run.process.kill()
        code = run.end()
        kills += code == -signal.SIGKILL
        left = manager.steps_in(workdir / "checkpoints")
        print(f"seed {SEED}, kill {kills}: {after} steps and {delay:.3f} s after the start, at step {run.step}, {left}")
        assert code == -signal.SIGKILL and seen == after, run.said
        assert run.resumed == newest, run.said
        newest = left[0] if left else 0
        # One interval, and the save that was under way in the background.
        assert run.step - newest <= 2 * INTERVAL and newest >= run.resumed
    assert Run(workdir, *words).end() == 0
    requires_same(workdir, tmp_path / "undisturbed", steps)


def small_state(step, seed=0):
    """A state of arrays, one of them of many chunks."""
    rng = np.random.default_rng(seed)
    params = {"a": {"kernel": rng.standard_normal((300, 400), np.float32)}, "b": {"bias": np.zeros(3, np.float32)}}
    state = create(jax.tree.map(jnp.asarray, params), lambda path: path == "a/kernel", optax.adam(1e-3))
    return distributed.replicate(state._replace(step=jnp.int32(step)), distributed.make_mesh())


CONFIG = ml_collections.ConfigDict({"seed": 0})


def with_checkpoints(workdir, *steps, keep=2):
    checkpoints = Checkpoints(workdir, keep)
    for step in steps:
        checkpoints.save(small_state(step, seed=step), CONFIG, step * 8)
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return with_checkpoints(tmp_path_factory.mktemp("two"), 3, 6)


def test_no_damage_to_a_file_passes_for_whole_unless_every_value_is_the_same(two, tmp_path):
    whole = as_bytes(two, 6)
    files = [path.relative_to(two) for path in (two / "checkpoints" / "6").rglob("*") if path.is_file()]
    found = {True: 0, False: 0}
    for file in files:
        data = (two / file).read_bytes()
        for damaged in (None, b"", data[: len(data) // 2], bytes(len(data))):
            workdir = tmp_path / "damaged"
            shutil.copytree(two, workdir)
            (workdir / file).unlink()
            if damaged is not None:
                (workdir / file).write_bytes(damaged)
            step, _, run, corrupt = manager.newest(workdir / "checkpoints")
            found[step == 6] += 1
            assert (step, list(corrupt)) in ((6, []), (3, [6])), file
            assert run["examples"] == step * 8
            if step == 6:
                assert as_bytes(workdir, 6) == whole, file
            shutil.rmtree(workdir)
    assert min(found.values()) > 8


@pytest.mark.parametrize("how", ["cut", "empty", "deleted"])
def test_a_corrupt_newest_checkpoint_is_quarantined_and_the_previous_one_is_used(two, tmp_path, how, capsys):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    # Small arrays may lie in the process's own files or in the merged ones.
    for file in (tmp_path / "checkpoints" / "6" / "state").rglob("d/*"):
        if how == "deleted":
            file.unlink()
        else:
            os.truncate(file, file.stat().st_size // 2 if how == "cut" else 0)
    # Loading without a run takes the previous one and moves nothing.
    assert load_step(tmp_path) == 3
    assert (tmp_path / "checkpoints" / "6").is_dir() and "6 is corrupt" in capsys.readouterr().err
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() == 3 and checkpoints.run()["examples"] == 24
    aside = tmp_path / "broken-checkpoints" / "6"
    assert "checkpoint 6 is corrupt" in (said := capsys.readouterr().err) and str(aside) in said
    assert aside.is_dir()
    like = small_state(0)
    restored = checkpoints.restore(jax.eval_shape(lambda: like), distributed.everywhere(distributed.make_mesh()))
    np.testing.assert_array_equal(restored.trainable["a/kernel"], small_state(3, seed=3).trainable["a/kernel"])
    checkpoints.save(small_state(6, seed=6), CONFIG, 48)
    checkpoints.close()
    assert as_bytes(tmp_path, 6) == as_bytes(two, 6)


def load_step(workdir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("driqa_jax.checkpoints.load.describe", lambda run: run["step"])
        patch.setattr("driqa_jax.checkpoints.weights.decode_metadata", lambda metadata, path: metadata)
        return load(workdir).metadata


def test_if_all_checkpoints_are_corrupt_the_error_names_the_folder_and_nothing_changes(two, tmp_path):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    for step in ("3", "6"):
        (tmp_path / "checkpoints" / step / "run" / "metadata").write_bytes(b"")
    said = re.escape(str(tmp_path / "checkpoints")) + r": all checkpoints are corrupt \(6: .*; 3: .*\)"
    with pytest.raises(UserError, match=said):
        Checkpoints(tmp_path)
    with pytest.raises(UserError, match=said):
        load(tmp_path)
    assert manager.steps_in(tmp_path / "checkpoints") == [6, 3]


def test_the_newest_are_kept_and_leftovers_of_a_kill_removed(tmp_path):
    half = tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp"
    half.mkdir(parents=True)
    (half / "d").write_bytes(bytes(9))
    with_checkpoints(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [".lock", "3", "4"]
    with pytest.raises(UserError, match=r"config.checkpoint.keep must be at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)


def test_a_second_process_in_the_folder_is_refused(tmp_path):
    with_checkpoints(tmp_path, 1)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(tmp_path / "checkpoints" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="another run is saving here"):
            Checkpoints(tmp_path)
        other.stdin.close()
    Checkpoints(tmp_path).close()


def test_the_loop_waits_for_no_disk(tmp_path, monkeypatch):
    """`save` comes back while the commit cannot begin; it holds the loop up for under 1 % of the default interval."""
    gate, finalize = threading.Event(), AtomicRenameTemporaryPath.finalize

    async def held(self):
        while not gate.is_set():
            time.sleep(0.01)
        await finalize(self)

    monkeypatch.setattr(AtomicRenameTemporaryPath, "finalize", held)
    checkpoints = Checkpoints(tmp_path)
    state = small_state(1)
    start = time.monotonic()
    checkpoints.save(state, CONFIG, 8)
    blocked = time.monotonic() - start
    checkpoints.check()
    assert manager.steps_in(tmp_path / "checkpoints") == [] and checkpoints.latest() == 1
    gate.set()
    checkpoints.close()
    assert manager.steps_in(tmp_path / "checkpoints") == [1]
    assert blocked < 0.01 * 60 * configured().checkpoint.minutes


@contextlib.contextmanager
def mounted(folder, *options):
    """A small file system in memory, skipping where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_clearly_and_once_there_is_room_it_goes_on(tmp_path, undisturbed):
    with mounted(tmp_path / "disk", "size=4m") as disk:
        run = Run(disk / "run")
        assert run.end() == 2 and "Traceback" not in run.said, run.said
        folder, last = disk / "run" / "checkpoints", run.said.splitlines()[-1]
        said = re.escape(f"{folder}: a checkpoint could not be saved (No space left on device); the newest one")
        assert re.search(said + r", of step \d+, .*run the same command to resume", last), run.said
        left = manager.newest(folder)
        assert left[0] and not left[3]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again = Run(disk / "run")
        assert again.end() == 0 and again.resumed == left[0], again.said
        requires_same(disk / "run", undisturbed)


@pytest.mark.parametrize("full", ["metrics.jsonl", "tensorboard"])
def test_a_log_that_cannot_be_written_is_an_error_that_names_it(full, tmp_path, monkeypatch):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        if full == "tensorboard":
            pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
            (tmp_path / "roomy").mkdir()
            (tmp_path / "roomy" / "tensorboard").symlink_to(disk)
            log = MetricLog(tmp_path / "roomy", 0)
        else:
            monkeypatch.setattr(telemetry, "tensorboard_installed", lambda: False)
            log = MetricLog(disk, 0)
        with pytest.raises(UserError, match=rf"{full}: cannot be written \(No space left on device\)"):
            for step in range(10_000):
                log.write(step, {"loss": 0.5})
        with contextlib.suppress(OSError):
            log.close()
        with contextlib.suppress(OSError):
            log._file.close()


def test_the_log_is_strict_json_and_survives_what_a_power_cut_leaves(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n\0\0\xff\n[1]\n{"step": 2, "lo')
    log = MetricLog(tmp_path, 5)
    log.write(6, {"loss": math.nan, "gradient_norm": math.inf})
    assert log_of(tmp_path) == [{"step": 1, "loss": 2.0}, {"step": 6, "loss": None, "gradient_norm": None}]


@pytest.fixture
def trainer(monkeypatch):
    """loop.train on so many devices of this process, with the toy stage, stopped by SIGTERM before a step if asked."""
    monkeypatch.setitem(driqa.VARIANTS, "tiny", lambda config: None)
    used = stage()

    def train(workdir, devices=2, stop=None, **changes):
        def batches(*words):
            for number, batch in enumerate(used.batches(*words)):
                if number == stop:
                    signal.raise_signal(signal.SIGTERM)
                yield batch

        monkeypatch.setattr(loop, "STAGES", {"finetune": used._replace(batches=batches)})
        monkeypatch.setattr(distributed, "make_mesh", functools.partial(make_mesh, jax.devices()[:devices]))
        return loop.train(configured(steps=12, **changes), str(workdir))

    make_mesh = distributed.make_mesh
    return train


def test_on_other_devices_a_run_goes_on_from_the_same_example(tmp_path, trainer):
    assert trainer(tmp_path / "straight") == 0
    assert trainer(tmp_path / "moved", stop=6) == 143
    assert manager.steps_in(tmp_path / "moved" / "checkpoints")[0] == 7
    assert trainer(tmp_path / "moved", devices=4) == 0
    examples = [line["first_example"] for line in log_of(tmp_path / "straight") if "loss" in line]
    assert examples == [4 * step for step in range(12)]
    assert [line["first_example"] for line in log_of(tmp_path / "moved") if "loss" in line] == examples
    one, two = arrays(tmp_path / "straight", 12), arrays(tmp_path / "moved", 12)
    for path, value in one.items():
        np.testing.assert_allclose(two[path], value, rtol=1e-4, atol=1e-6, err_msg=path)


def test_a_state_restored_on_other_devices_is_the_same_to_the_bit(two):
    checkpoints, like = Checkpoints(two), small_state(0)
    for devices in (1, 4):
        mesh = distributed.make_mesh(jax.devices()[:devices])
        restored = checkpoints.restore(jax.eval_shape(lambda: like), distributed.everywhere(mesh))
        expected = small_state(6, seed=6)
        for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
            assert len(one.sharding.device_set) == devices
            np.testing.assert_array_equal(one, other)
    checkpoints.close()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_begins(tmp_path, trainer, monkeypatch):
    monkeypatch.setattr(loop, "sources", lambda config: pytest.fail("the data were opened"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/checkpoints: cannot be written \(Not a directory\)"):
        trainer(tmp_path / "file")
    said = r"cannot be written \(Read-only file system\); .*another --workdir"
    with mounted(tmp_path / "disk", "ro") as disk, pytest.raises(UserError, match=said):
        trainer(disk / "run")


def test_a_stopped_command_says_how_to_go_on(monkeypatch, capsys, root):
    monkeypatch.setattr("driqa_jax.train.loop.train", lambda config, workdir: 143)
    words = ["train", "--config", str(root / "configs" / "smoke.py"), "--workdir", "my run", "--config.seed=1"]
    assert main(words) == 143
    assert f"to resume: driqa train --config {root}/configs/smoke.py --workdir 'my run' --config.seed=1" in (
        capsys.readouterr().err
    )
