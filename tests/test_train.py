"""The training loop: byte-exact resume, signals, the log, what moves and what stays."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tiny_model import random_params, tiny

import driqa_jax
from driqa_jax import distributed
from driqa_jax.checkpoints.load import LoadedModel, describe, load
from driqa_jax.checkpoints.weights import flatten, load_weights, save_weights, unflatten
from driqa_jax.degradations import NAMES
from driqa_jax.distributed.processes import Interrupt
from driqa_jax.errors import DataError, UserError
from driqa_jax.inference.calibration import fit_calibration
from driqa_jax.models import driqa
from driqa_jax.train import initialization, loop, optim
from driqa_jax.train.config import default, migrate_config
from driqa_jax.train.export import export
from driqa_jax.train.telemetry import Chrono, MetricLog

STEPS, STOP = 5, 2
ROOT = pathlib.Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("tiny_variant")


def configured(stage="finetune", **changes):
    """A training of `STEPS` steps on generated pictures."""
    config = default()
    config.model.types = NAMES
    config.stage, config.model.variant = stage, "tiny"
    config.data.kind, config.data.fake_count = "fake", 24
    config.view.short, config.view.canvas, config.view.tile = 64, (64, 64), 64
    config.batch_size, config.steps, config.log_every, config.eval_every = 8, STEPS, 1, 2
    config.loss.plcc = 0.5
    config.pretrain.crop, config.pretrain.chains = 32, 2
    if stage == "pretrain":
        config.optim.frozen, config.eval_every = (), 0
        with config.unlocked():
            config.pretrain.recipe.names = ("motion_blur", "white_noise", "jpeg", "brighten")
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A weights file of the tiny model."""
    path = tmp_path_factory.mktemp("start") / "tiny.safetensors"
    config = configured()
    run = {"config": config.to_dict(), "examples": 0, "step": 0}
    save_weights(path, random_params(tiny(config.model)), describe(run))
    return path


def stop(config, workdir):
    """The exit code of a run that SIGTERM stops: the step under way, number STOP + 1, is finished and saved."""
    stage = loop.STAGES[config.stage]

    def batches(*args):
        for number, batch in enumerate(stage.batches(*args)):
            if number == STOP:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loop.STAGES, config.stage, stage._replace(batches=batches))
        code = loop.train(config, workdir)
    assert ocp.CheckpointManager(workdir.resolve() / "checkpoints").latest_step() == STOP + 1
    return code


@pytest.fixture(scope="module")
def straight(start, tmp_path_factory):
    """The workdir of a run without a stop, its compiled step, its events, and how often it loaded `config.init`."""
    workdir, compiled, events, loads = tmp_path_factory.mktemp("straight"), [], [], []

    def map_step(*args):
        compiled.append(distributed.map_step(*args))
        return compiled[0]

    def load_and_count(*args):
        loads.append(args)
        return load(*args)

    hooks = loop.Hooks(
        on_batch=lambda step, requested: events.append(("batch", step)),
        on_step=lambda step, metrics: events.append(("step", step)),
        on_eval=lambda step, params, values: events.append(("eval", step)),
        on_save=lambda step, seconds: events.append(("save", step)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "distributed", SimpleNamespace(**{**vars(distributed), "map_step": map_step}))
        patch.setattr(initialization, "load", load_and_count)
        assert loop.train(configured(init=str(start)), workdir, hooks) == 0
    return workdir, compiled[0], events, loads


@pytest.fixture(scope="module")
def resumed(start, tmp_path_factory):
    """The workdir of the same run, stopped on the way; what it started from is gone when it goes on."""
    workdir, own_start = tmp_path_factory.mktemp("resumed"), tmp_path_factory.mktemp("own") / "start.safetensors"
    shutil.copy(start, own_start)
    config = configured(init=str(own_start))
    assert stop(config, workdir) == 143
    own_start.unlink()
    assert loop.train(config, workdir) == 0
    return workdir


def saved(workdir, step=STEPS):
    """The leaves of a saved state, numpy, by path."""
    path, reader = workdir.resolve() / "checkpoints" / str(step) / "state", ocp.PyTreeCheckpointer()
    whole = reader.metadata(path).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), whole)
    leaves = jax.tree_util.tree_leaves_with_path(reader.restore(path, restore_args=as_numpy))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def digests(workdir):
    return {
        path: hashlib.sha256(str((leaf.dtype, leaf.shape)).encode() + leaf.tobytes()).hexdigest()
        for path, leaf in saved(workdir).items()
    }


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_stopped_and_resumed_run_ends_in_the_same_bytes(straight, resumed):
    one, two = digests(straight[0]), digests(resumed)
    for part in ("step", "trainable", "frozen", "ema", "opt_state"):
        assert any(path.startswith(f"['{part}']") for path in one), part
    assert len(set(one.values())) > 100
    assert one == two


@pytest.mark.long
def test_a_stopped_and_resumed_pretraining_ends_in_the_same_bytes(tmp_path):
    config = configured("pretrain")
    assert loop.train(config, tmp_path / "straight") == 0
    assert stop(config, tmp_path / "resumed") == 143
    assert loop.train(config, tmp_path / "resumed") == 0
    assert digests(tmp_path / "straight") == digests(tmp_path / "resumed")


def test_the_log_is_in_order_without_repeats_and_the_same_after_a_resume(straight, resumed):
    told = [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines(resumed)]
    assert told == [
        {key: value for key, value in line.items() if key != "images_per_second"} for line in lines(straight[0])
    ]
    kinds = [(line["step"], "val_srcc" in line) for line in told]
    steps = [(step, False) for step in range(1, STEPS + 1)]
    assert kinds == sorted([*steps, (2, True), (4, True), (5, True)])


def test_the_step_that_compiles_has_no_speed(straight, resumed):
    for workdir, compiled in ((straight[0], {1}), (resumed, {1, STOP + 2})):
        trained = [line for line in lines(workdir) if "loss" in line]
        assert {line["step"] for line in trained if "images_per_second" not in line} == compiled


def test_the_step_is_compiled_once(straight):
    assert straight[1]._cache_size() == 1


def test_hooks_are_called_in_the_order_of_the_loop(straight):
    steps = [[("batch", step), ("step", step)] for step in range(STEPS)]
    evaluated = {1: [("eval", 2)], 3: [("eval", 4)], 4: [("eval", 5)]}
    expected = [event for step, pair in enumerate(steps) for event in (*pair, *evaluated.get(step, []))]
    assert straight[2] == [*expected, ("save", STEPS)]


def test_the_initial_model_is_loaded_once(straight, start):
    assert straight[3] == [(str(start), "tiny")]


def test_a_changed_initial_model_is_loaded_again(start, tmp_path):
    shutil.copy(start, tmp_path / "start.safetensors")
    config = configured(init=str(tmp_path / "start.safetensors"))
    first = initialization.load_init(config)
    assert initialization.load_init(config) is first
    os.utime(tmp_path / "start.safetensors", (0, 0))
    assert initialization.load_init(config) is not first


def test_a_finished_run_stays_as_it_is(straight, start):
    workdir, before = straight[0], (lines(straight[0]), digests(straight[0]))
    assert loop.train(configured(init=str(start)), workdir) == 0
    assert (lines(workdir), digests(workdir)) == before


def test_what_is_frozen_stays_and_all_else_moves(straight, start):
    model = driqa.build_model(configured().model)
    first, last = flatten(load(start, "tiny").params), saved(straight[0])
    parts = {part: {path for path in first if f"['{part}']['{path}']" in last} for part in ("trainable", "frozen")}
    assert parts["trainable"] | parts["frozen"] == set(first) == set(flatten(random_params(model)))
    frozen = {path for path in first if optim.matches(path, configured().optim.frozen)}
    assert parts["frozen"] == frozen and {path.split("/")[0] for path in frozen} > {
        "degradation_encoder",
        "restoration",
    }
    for path in parts["frozen"]:
        np.testing.assert_array_equal(last[f"['frozen']['{path}']"], first[path])
    for path in parts["trainable"]:
        assert (last[f"['trainable']['{path}']"] != first[path]).any(), path
        assert (last[f"['ema']['{path}']"] != last[f"['trainable']['{path}']"]).any(), path


def test_a_run_is_loaded_for_scoring_and_scores(straight):
    workdir, last = straight[0], saved(straight[0])
    params, metadata, _ = load(workdir)
    flat = flatten(params)
    assert metadata["variant"] == "tiny" and metadata["provenance"]["step"] == STEPS
    assert metadata["provenance"]["examples"] == STEPS * 8
    for path, value in flat.items():
        part = "frozen" if optim.matches(path, configured().optim.frozen) else "ema"
        np.testing.assert_array_equal(value, last[f"['{part}']['{path}']"])
    scorer = driqa_jax.load(workdir)
    picture = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    score = scorer(picture)
    assert isinstance(score, float) and 0 <= score <= 100 and score == scorer(picture)


def test_another_configuration_in_the_folder_is_refused_naming_the_keys(straight, start):
    changed = configured(init=str(start), **{"optim.lr": 1.0, "loss.plcc": 0.25, "log_every": 7, "data.threads": 1})
    with pytest.raises(UserError, match=r"another configuration \(it differs in loss\.plcc, optim\.lr\)"):
        loop.train(changed, straight[0])


def test_a_folder_without_a_checkpoint_takes_another_configuration(start, tmp_path):
    with pytest.raises(UserError, match="no picture in 'nowhere'"):
        loop.train(configured(init=str(start), **{"data.train": "nowhere"}), tmp_path)
    with pytest.raises(UserError, match="no picture in 'elsewhere'"):
        loop.train(configured(init=str(start), **{"data.train": "elsewhere"}), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["data"]["train"] == "elsewhere"


def test_an_absent_start_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="no model 'absent'"):
        loop.train(configured(init="absent"), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_validation_images_that_the_initial_model_was_trained_on_are_counted(straight):
    def seen(**changes):
        config = configured(**{"init": str(straight[0]), "data.fake_count": 240, **changes})
        val = loop.sources(config)[1]
        return initialization.validation_overlap(config, lambda: loop.opened(config.data)[0], val) / len(val)

    assert seen() == 0
    assert seen(seed=1) == 0  # another seed keeps the fold
    other = {"data.fold": 1}
    assert seen(**other) > 0.5
    assert seen(**{"data.val": "test"}) == 0
    assert seen(**other, init="") == seen(**other, **{"data.name": "other"}) == seen(**other, stage="pretrain") == 0
    # E_d and R alone are taken, which scores have not taught.
    assert seen(**other, stage="heads") == seen(**other, **{"model.interaction": "concat"}) == 0


def test_an_older_training_has_the_fold_that_its_seed_drew():
    said = configured(seed=3).to_dict()
    del said["data"]["fold"]
    assert migrate_config(said)["data"]["fold"] == 3
    said["data"]["fold"] = 1
    assert migrate_config(said)["data"]["fold"] == 1


def test_a_run_begun_before_there_was_a_key_goes_on(straight, start, tmp_path):
    workdir = tmp_path / "older"
    shutil.copytree(straight[0], workdir)
    said = json.loads((workdir / "config.json").read_text())
    del said["twins"], said["loss"]["same"], said["rank"]["often"], said["view"]["shrink"], said["model"]["interaction"]
    del said["data"]["fold"]
    (workdir / "config.json").write_text(json.dumps(said))
    assert loop.train(configured(init=str(start)), workdir) == 0
    with pytest.raises(UserError, match=r"it differs in twins\.every"):
        loop.train(configured(init=str(start), **{"twins.every": 2}), workdir)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"stage": "train"}, "config.stage must be one of pretrain, finetune, heads, got 'train'"),
        ({"batch_size": 12}, "config.batch_size=12 cannot be split over 8 devices"),
        ({"data.train": "nowhere"}, "no picture in 'nowhere'"),
        ({"view.quality": 99}, "config.view.quality must be 1 to 98, or 100 to encode nothing, got 99"),
        ({"data.kind": "folder"}, "'folder' needs a path"),
        ({"optim.frozen": ("*",)}, "config.optim.frozen leaves no parameter for the stage 'finetune' to train"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, said, start, tmp_path):
    with pytest.raises((UserError, DataError), match=said):
        loop.train(configured(**{"init": str(start), **changes}), tmp_path)


@pytest.mark.long
def test_a_command_stopped_by_sigterm_saves_exits_143_and_goes_on_to_the_end(tmp_path):
    workdir = tmp_path / "run"
    words = ["train", "--config", str(ROOT / "configs" / "smoke.py"), "--workdir", str(workdir), "--config.log_every=1"]
    command = [sys.executable, "-m", "driqa_jax", *words]
    # The second process finds the programs of the first.
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    options = {"cwd": ROOT, "env": {**os.environ, **cache}, "text": True}
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as process:
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("step 1 "):
                process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143, said
    assert f"stopped at step {lines(workdir)[-1]['step']} of 6, saved\nto resume: driqa train --config " in said
    steps = [line["step"] for line in lines(workdir)]
    assert steps == list(range(1, steps[-1] + 1)) and steps[-1] < 6
    done = subprocess.run(command, capture_output=True, timeout=300, **options)
    assert done.returncode == 0 and f"resumed at step {steps[-1]}\n" in done.stderr, done.stderr
    assert [line["step"] for line in lines(workdir) if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_signals_raise_a_flag_and_a_second_ctrl_c_interrupts():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert interrupt.exit_code == 0
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.exit_code == 143
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.exit_code == 130
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_resumed_log_drops_later_lines_and_half_lines(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n{"step": 2, "lo')
    log = MetricLog(tmp_path, 2)
    log.later(3, {"loss": np.float32(1 / 3)}, None)
    assert [line["step"] for line in lines(tmp_path)] == [2]
    log.write(3, {"val_srcc": 0.5})
    log.later(4, {"loss": 2.0}, 12.5)
    log.flush()
    log.flush()
    assert lines(tmp_path) == [
        {"step": 2, "loss": 1.0},
        {"step": 3, "loss": 0.333333},
        {"step": 3, "val_srcc": 0.5},
        {"step": 4, "loss": 2.0, "images_per_second": 12.5},
    ]


def test_speed_leaves_out_what_was_paused_and_what_was_before(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    chrono = Chrono()
    assert chrono.read() is None
    now[0] += 30
    chrono.restart()
    chrono.count(8)
    now[0] += 2
    with chrono.paused():
        now[0] += 50
    chrono.count(8)
    now[0] += 2
    assert chrono.read() == 4.0
    now[0] += 5
    assert chrono.read() is None
    chrono.count(8)
    assert chrono.read() is None


def test_flat_parts_merge_to_the_tree():
    tree = {"a": {"b": {"kernel": 1}, "bias": 2}, "c": 3}
    flat = flatten(tree)
    assert flat == {"a/b/kernel": 1, "a/bias": 2, "c": 3}
    assert unflatten({"c": 3}, {"a/bias": 2, "a/b/kernel": 1}) == tree


def test_the_mean_of_two_trainings_is_exported_where_they_are_alike(start, tmp_path, monkeypatch):
    config = configured(**{"data.fake_count": 400})
    runs = {name: {"config": config.to_dict(), "examples": 8, "step": step} for name, step in (("one", 1), ("two", 2))}
    params = random_params(tiny(config.model))
    saved = {"one": params, "two": jax.tree.map(lambda x: 1.5 * x, params)}
    monkeypatch.setattr(
        "driqa_jax.train.export.load_model", lambda name: LoadedModel(saved[name], describe(runs[name]), None)
    )
    # What random parameters predict need not rise with the scores.
    monkeypatch.setattr("driqa_jax.train.export.fit_calibration", lambda predicted, mos: fit_calibration(mos, mos))
    found = export("one", tmp_path / "mean.safetensors", "mine", average="two")
    stored, metadata = load_weights(tmp_path / "mean.safetensors")
    mine = flatten(params)
    for path, leaf in flatten(stored).items():
        np.testing.assert_allclose(leaf, 1.25 * mine[path], rtol=2e-3, atol=1e-6)
    assert found["n"] > 20 and metadata["provenance"]["step"] == 1
    assert metadata["provenance"]["averaged_with"]["step"] == 2
    runs["two"]["config"]["seed"] = 1  # another order of the same pictures
    export("one", tmp_path / "mean.safetensors", "mine", average="two")
    for run in runs.values():  # trainings of before there was the key
        del run["config"]["data"]["fold"]
    with pytest.raises(UserError, match="one and two differ in data.fold: only runs of one model"):
        export("one", tmp_path / "mean.safetensors", "mine", average="two")
    assert export("one", tmp_path / "alone.safetensors", "mine")["n"] == found["n"]
    runs["two"]["config"]["data"]["val"], runs["two"]["config"]["data"]["fold"] = "test", 1
    with pytest.raises(UserError, match="one and two differ in data.val, data.fold: only runs of one model"):
        export("one", tmp_path / "mean.safetensors", "mine", average="two")
