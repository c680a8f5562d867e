"""The training loop. Its order is: evaluate, save, then take the next batch, step, log.

A checkpoint therefore always lies between two batches, and a resumed run continues as if it had not stopped.
"""

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from driqa_jax import distributed
from driqa_jax.checkpoints.manager import Checkpoints, TrainState, create
from driqa_jax.checkpoints.weights import unflatten
from driqa_jax.data.label_tables import in_config
from driqa_jax.data.open import open_configured
from driqa_jax.data.source import Joined, Source
from driqa_jax.data.split_file import Split
from driqa_jax.data.splits import require_separate_contents, require_separate_sources, select
from driqa_jax.distributed import processes
from driqa_jax.distributed.processes import Interrupt
from driqa_jax.errors import UnreadableImage, UserError, require_choice, user_errors
from driqa_jax.inference.conformal import lacking
from driqa_jax.io import write_text
from driqa_jax.models.driqa import build_model
from driqa_jax.models.precision import COMPUTE
from driqa_jax.train import initialization, optim
from driqa_jax.train.config import data_sets, fixed_on_resume, require_same
from driqa_jax.train.stages.registry import STAGES, Stage
from driqa_jax.train.step import NONFINITE, make_step, nonfinite_name
from driqa_jax.train.telemetry import Chrono, MetricLog, Profile, save_curves


def _report(text: str) -> None:
    print(text, file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Hooks:
    """Callbacks of the loop; the defaults do nothing.

    on_batch: (step, time.perf_counter() when its batch was requested), once the batch has arrived; steps count from 0.
    on_step: (step, metrics on the device), once the step has been dispatched.
    on_eval: (step, averaged parameters, validation values); a resumed run may repeat an evaluation, equal to the bit.
    on_save: (step, seconds for which the save held the loop).
    """

    on_batch: Callable[[int, float], None] = lambda *unused: None
    on_step: Callable[[int, dict], None] = lambda *unused: None
    on_eval: Callable[[int, dict, dict[str, float]], None] = lambda *unused: None
    on_save: Callable[[int, float], None] = lambda *unused: None


class Setup(NamedTuple):
    """What is fixed while the loop runs; `config` is completed by `initialization.with_model`, `steps` the length."""

    config: FrozenConfigDict
    stage: Stage
    mesh: jax.sharding.Mesh
    folder: pathlib.Path
    checkpoints: Checkpoints
    train_source: Source
    val_source: Source
    model: Any
    optimizer: optax.GradientTransformation
    steps: int


def train(config: ConfigDict, workdir: str, hooks: Hooks | None = None, stage: Stage | None = None) -> int:
    """Train from the start or from the newest checkpoint in `workdir`; `stage` replaces the one in `config.stage`.

    Returns the exit code, after saving: 0 at the end, 143 after SIGTERM, 130 after Ctrl-C, 1 if a value is not finite.
    Raises UserError if the configuration is invalid, or if `workdir` holds a run of another configuration.
    """
    setup, hooks = _set_up(config, workdir, stage), hooks or Hooks()
    run = _initial_state(setup)
    config, checkpoints, steps, start = setup.config, setup.checkpoints, setup.steps, int(run.step)
    train_step = _compiled_step(setup)
    validate = setup.stage.validate(config, setup.model, setup.mesh)
    log = MetricLog(setup.folder, start, active=jax.process_index() == 0)
    batches = setup.stage.batches(config, setup.train_source, start, jax.process_index(), jax.process_count())
    chrono, profile, schedule = Chrono(), Profile(setup.folder / "profile", config.profile), _SaveSchedule(config)
    # `code` is what the host knows of the state's nonfinite_code; `pending` is a later value, still on the device.
    step, code, pending, metrics = start, 0, 0, {}

    def save():
        began = time.perf_counter()
        with chrono.paused():
            log.flush()
            checkpoints.save(run, config, step * config.batch_size)
        hooks.on_save(step, time.perf_counter() - began)

    def unsaved() -> bool:
        return step > start and not int(run.nonfinite_code)

    with Interrupt() as interrupt, _saved_if_unreadable(unsaved, save, checkpoints.close, log.close):
        while True:
            done = step >= steps
            # ---- evaluate, but not the step resumed at, which was evaluated before it was saved, nor a frozen state
            if step > start and (done or _divides(config.eval_every, step)) and not (code := int(run.nonfinite_code)):
                jax.block_until_ready(run)
                with chrono.paused():
                    averaged = unflatten(run.ema, run.frozen)
                    values = validate(averaged, setup.val_source)
                    log.write(step, values)
                    hooks.on_eval(step, averaged, values)
            # ---- save
            checkpoints.check()
            due, stopped = schedule.due(step), interrupt.reached(step - start)
            if done or stopped or due or code:
                jax.block_until_ready(run)
                code, step = int(run.nonfinite_code), int(run.step)
                save()
                schedule.saved()
            if done or stopped or code:
                break
            # ---- take a batch, step
            profile.before(step, run)
            requested = time.perf_counter()
            batch = next(batches)
            hooks.on_batch(step, requested)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                run, metrics = train_step(run, distributed.place_batch(batch, setup.mesh))
            hooks.on_step(step, metrics)
            step += 1
            chrono.count(config.batch_size)
            if step == start + 1:
                jax.block_until_ready(run)
                chrono.restart()  # the first step includes compilation
            # ---- log
            if step % config.log_every == 0 or step == steps:
                # The code of the previous line has arrived by now, so the host does not wait for the step just sent.
                code, pending = int(pending), metrics.pop(NONFINITE)
                log.later(step, metrics, chrono.read())
        profile.stop(run)
        log.close()
        checkpoints.close()
        if jax.process_index() == 0:
            save_curves(setup.folder)
    if code:
        _report(
            f"step {step + 1}: {nonfinite_name(code, metrics, run.trainable)} is not finite; the state before it is "
            "saved. The same command repeats the step; a smaller config.optim.lr needs a new --workdir"
        )
        return 1
    if interrupt.exit_code:
        _report(f"stopped at step {step} of {steps}, saved")
    return interrupt.exit_code


@contextlib.contextmanager
def _saved_if_unreadable(unsaved: Callable[[], bool], *rescue: Callable[[], None]) -> Iterator[None]:
    """If an image cannot be read, call each `rescue` if there is unsaved progress, and raise UserError."""
    try:
        yield
    except UnreadableImage as error:
        saved = ""
        # With several processes, the others can read their images and would not take part in the save.
        if jax.process_count() == 1 and unsaved():
            for action in rescue:
                action()
            saved = "; the state of the last step is saved"
        raise UserError(
            f"{error}{saved}. Repair the image and run the same command to resume, or remove it from the data and "
            "train into a new --workdir"
        ) from error


def _set_up(config: ConfigDict, workdir: str, stage: Stage | None) -> Setup:
    mesh = distributed.make_mesh()
    _require_valid(config, mesh)
    stage, folder, first = stage or STAGES[config.stage], pathlib.Path(workdir), jax.process_index() == 0
    checkpoints = Checkpoints(folder, config.checkpoint.keep)
    begun = checkpoints.latest() is not None
    # A resumed run takes the model from its checkpoint, because what it started from may be gone.
    config = initialization.with_model(config, checkpoints.run()["config"]["model"] if begun else None)
    _claim(folder, config, begun, first)

    train_source, val_source = sources(config)
    overlap = 0 if begun else initialization.validation_overlap(config, lambda: opened(config.data)[0], val_source)
    if overlap and first:
        _report(
            f"warning: {config.init} was trained on {overlap} of the {len(val_source)} validation images "
            "(config.data.fold selects them), so the validation metrics are too optimistic"
        )
    steps = config.steps or max(1, round(config.epochs * len(train_source) / config.batch_size))
    if first:
        _report(
            f"{config.stage}: {len(train_source)} images, {len(val_source)} for validation, {steps} steps of "
            f"{config.batch_size} on {mesh.size} {jax.devices()[0].platform} device(s), {jax.process_count()} "
            "process(es)"
        )
        for line in filter(None, (train_source.labels_from, lacking(len(val_source)) if stage.predict else "")):
            _report(line)

    with user_errors("config.{}"):
        model = build_model(config.model, config.remat)
    optimizer = optim.make_optimizer(config.optim, steps)
    return Setup(config, stage, mesh, folder, checkpoints, train_source, val_source, model, optimizer, steps)


def _require_valid(config: ConfigDict, mesh: jax.sharding.Mesh) -> None:
    if config.batch_size % mesh.size:
        raise UserError(f"config.batch_size={config.batch_size} cannot be split over {mesh.size} devices")
    for key, choices in {"parallel": distributed.EXECUTORS, "compute": COMPUTE, "stage": STAGES}.items():
        require_choice(key, config[key], choices)
    if config.accumulate < 1:
        raise UserError(f"config.accumulate must be at least 1 (the whole batch in one part), got {config.accumulate}")


def _initial_state(setup: Setup) -> TrainState:
    """The state of the newest checkpoint, or a new one, on all devices."""
    config, checkpoints = setup.config, setup.checkpoints

    def first(params):
        return create(params, lambda path: optim.is_trained(config, path), setup.optimizer)

    if checkpoints.latest() is None:
        params = setup.stage.params(config, setup.model, setup.train_source)
        run = distributed.replicate(first(params), setup.mesh)
        if not run.trainable:
            raise UserError(f"config.optim.frozen leaves no parameter for the stage {config.stage!r} to train")
        return run
    run = checkpoints.restore(jax.eval_shape(first, checkpoints.shapes()), distributed.everywhere(setup.mesh))
    if jax.process_index() == 0:
        _report(f"resumed at step {int(run.step)}")
    return run


def _compiled_step(setup: Setup) -> Callable:
    config = setup.config
    loss = setup.stage.make_loss(config, setup.model)
    step = make_step(loss, setup.optimizer, config.optim.ema, config.compute, config.accumulate)
    return distributed.map_step(step, setup.mesh, config.parallel)


class _SaveSchedule:
    """When to save: every `config.checkpoint.minutes`, and every `config.checkpoint.steps` steps."""

    def __init__(self, config: ConfigDict):
        self._config = config
        self.saved()

    def saved(self) -> None:
        """Restart the clock."""
        self._saved_at = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to save at this step; the same answer in all processes, which ask at every step."""
        late = time.monotonic() - self._saved_at > 60 * self._config.checkpoint.minutes
        if jax.process_count() > 1:  # their clocks differ, and asking the first process takes a moment
            late = step % self._config.log_every == 0 and processes.first_says(late)
        return late or (step > 0 and _divides(self._config.checkpoint.steps, step))


def _divides(interval: int, step: int) -> bool:
    """Whether a step is a multiple of an interval; never for the interval 0."""
    return bool(interval) and step % interval == 0


def opened(data: ConfigDict, keys: str = "") -> tuple[Source, bool]:
    """A data set with its split, and whether that is official; errors spell its keys `config.data.{keys}KEY`."""
    source = open_configured(data, lambda name, value=None: in_config(keys + name, value))
    if not data.split_file:
        return source, data.kind == "tfds"
    split = Split.load(data.split_file)
    return split.assigned(source), split.official


def sources(config: ConfigDict) -> tuple[Source, Source]:
    """The training and the validation part of the configured data. Raises UserError if the data cannot be opened."""
    sets, parts = data_sets(config), []
    with user_errors():
        for name, data in sets.items():
            source, official = opened(data, f"sources.{name}." if name else "")
            train, val = (select(source, part, data.fold, data.min_mos or None) for part in (data.train, data.val))
            if shared := require_separate_contents(source, train, val, official):
                _report(f"warning: {shared}")
            parts.append((source, train, val))
        if len(parts) == 1:
            return train, val
        weights = [data.weight for data in sets.values()]
        whole, train, val = (Joined(dict(zip(sets, each, strict=True)), weights) for each in zip(*parts, strict=True))
        require_separate_sources(whole, train)
        return train, val


def _claim(folder: pathlib.Path, config: ConfigDict, begun: bool, first: bool) -> None:
    """Write the configuration into a workdir; raise UserError if it holds a checkpoint of another configuration."""
    path, text = folder / "config.json", json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"
    if begun and path.exists():
        require_same(*(fixed_on_resume(json.loads(each)) for each in (path.read_text(), text)), folder)
    elif first:
        write_text(path, text)
