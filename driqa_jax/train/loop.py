"""The training loop, read from top to bottom. The order is: evaluate, save, only then take the next batch, step, log.

So a checkpoint always lies between two batches: what follows from it is what would have followed without the stop.
"""

import contextlib
import json
import pathlib
import sys
import time

import jax
import ml_collections

from driqa_jax import distributed
from driqa_jax.checkpoints import state
from driqa_jax.checkpoints.manager import Checkpoints
from driqa_jax.data.label_columns import in_config
from driqa_jax.data.open import open_configured
from driqa_jax.data.source import Source
from driqa_jax.data.split_file import Split
from driqa_jax.data.splits import require_separate_contents, select
from driqa_jax.distributed import processes
from driqa_jax.errors import UnreadableImage, UserError
from driqa_jax.inference.conformal import lacking
from driqa_jax.io import write_whole
from driqa_jax.models.driqa import build_model
from driqa_jax.models.precision import COMPUTE
from driqa_jax.train import curves, health, initialization, optim
from driqa_jax.train.config import fixed_on_resume
from driqa_jax.train.fold import seen_before
from driqa_jax.train.preemption import Interrupt
from driqa_jax.train.profile import Profile
from driqa_jax.train.stages.registry import STAGES
from driqa_jax.train.step import make_step
from driqa_jax.train.telemetry import MetricLog
from driqa_jax.train.timing import Chrono


def train(config: ml_collections.ConfigDict, workdir: str, watch=lambda step, params, found: None) -> int:
    """Train, from the start or from the newest checkpoint in `workdir`.

    `watch` is told of each evaluation: its step, the averaged parameters, what validation found. After a resumption it
    may be told of one again, the same to the bit.

    Returns:
      The exit code: 0 at the end, 143 after SIGTERM, 130 after Ctrl-C, 1 where loss or gradients were not finite, which
      standard error names; in every case the last good state is saved.

    Raises:
      UserError: the configuration asks for what is not there, or `workdir` holds another configuration's run.
    """
    # ---- devices
    mesh = distributed.make_mesh()
    host, hosts = jax.process_index(), jax.process_count()
    if config.batch_size % mesh.size:
        raise UserError(f"config.batch_size={config.batch_size} cannot be split over {mesh.size} devices")
    if config.parallel not in distributed.EXECUTORS:
        raise UserError(f"config.parallel is {config.parallel!r}; there are {', '.join(distributed.EXECUTORS)}")
    if config.compute not in COMPUTE:
        raise UserError(f"config.compute is {config.compute!r}; there are {', '.join(COMPUTE)}")
    if config.accumulate < 1:
        raise UserError(f"config.accumulate={config.accumulate}: 1 reads the whole batch at once, more is in parts")

    # ---- configuration and folder
    if config.stage not in STAGES:
        raise UserError(f"config.stage is {config.stage!r}; the stages are {', '.join(STAGES)}")
    stage = STAGES[config.stage]
    folder = pathlib.Path(workdir)
    checkpoints = Checkpoints(folder, config.checkpoint.keep)
    begun = checkpoints.latest() is not None
    # From the checkpoint where there is one: what the run started from may be gone.
    config = initialization.with_model(config, checkpoints.run()["config"]["model"] if begun else None)
    _claim(folder, config, begun, host == 0)

    # ---- data
    train_source, val_source = sources(config)
    seen = 0 if begun else seen_before(config, lambda: opened(config)[0], val_source)
    if seen and host == 0:
        print(
            f"warning: {config.init} has learned from {seen} of the {len(val_source)} validation pictures "
            "(config.data.fold says which they are): what is said of them says little",
            file=sys.stderr,
        )
    steps = config.steps or max(1, round(config.epochs * len(train_source) / config.batch_size))
    if host == 0:
        print(
            f"{config.stage}: {len(train_source)} pictures, {len(val_source)} for validation, {steps} steps of "
            f"{config.batch_size} on {mesh.size} {jax.devices()[0].platform} device(s), {hosts} process(es)",
            file=sys.stderr,
        )
        for line in (train_source.labels_from, "" if stage.predict is None else lacking(len(val_source))):
            if line:
                print(line, file=sys.stderr)

    # ---- model, optimizer, state
    try:
        model = build_model(config.model, config.remat)
    except ValueError as error:
        raise UserError(f"config.{error}") from None
    optimizer = optim.make_optimizer(config.optim, steps)

    def is_trained(path):
        return optim.is_trained(config, path)

    def begin(params):
        return state.create(params, is_trained, optimizer)

    if checkpoints.latest() is None:
        run = distributed.replicate(begin(stage.params(config, model, train_source)), mesh)
        if not run.trainable:
            raise UserError(f"config.optim.frozen leaves nothing for the stage {config.stage!r} to train")
    else:
        run = checkpoints.restore(jax.eval_shape(begin, checkpoints.shapes()), distributed.everywhere(mesh))
        if host == 0:
            print(f"resumed at step {int(run.step)}", file=sys.stderr)
    start = step = int(run.step)

    # ---- the compiled step, the validation, the log
    step_of_device = make_step(
        stage.make_loss(config, model), optimizer, config.optim.ema, config.compute, config.accumulate
    )
    advance = distributed.map_step(step_of_device, mesh, config.parallel)
    validate = stage.validate(config, model, mesh)
    log = MetricLog(folder, step, active=host == 0)
    batches = stage.batches(config, train_source, step, host, hosts)
    chrono, saved_at = Chrono(), time.monotonic()
    profile, mark, trouble = Profile(folder / "profile", config.profile), 0, 0

    def save():
        with chrono.paused():
            log.flush()
            checkpoints.save(run, config, step * config.batch_size)

    def rescue():
        """Save what was learned before a picture could not be read; the step, None where nothing is saved."""
        if hosts > 1 or step == start or int(run.trouble):  # other processes, whose pictures are sound, join in no save
            return None
        save()
        checkpoints.close()
        log.close()
        return step

    with Interrupt() as interrupt, _rescued(rescue):
        while True:
            done = step >= steps
            # A step that is resumed at has been evaluated before it was saved.
            evaluates = step > start and (done or (config.eval_every and step % config.eval_every == 0))
            # ---- evaluate, unless a number was not finite: the state has not moved since
            if evaluates and not (trouble := int(run.trouble)):
                jax.block_until_ready(run)
                with chrono.paused():
                    averaged = state.merge(run.ema, run.frozen)
                    found = validate(averaged, val_source)
                    log.write(step, found)
                    watch(step, averaged, found)
            # ---- save
            checkpoints.check()
            late = time.monotonic() - saved_at > 60 * config.checkpoint.minutes
            if hosts > 1:  # their clocks differ, and asking for the first one's takes a moment
                late = step % config.log_every == 0 and processes.first_says(late)
            on_time = config.checkpoint.steps and step and step % config.checkpoint.steps == 0
            stopped = interrupt.reached(step - start)
            if done or stopped or late or on_time or trouble:
                jax.block_until_ready(run)
                trouble, step = int(run.trouble), int(run.step)
                save()
                saved_at = time.monotonic()
            if done or stopped or trouble:
                break
            # ---- take a batch, step
            profile.before(step, run)
            batch = distributed.place_batch(next(batches), mesh)
            run, metrics = advance(run, batch)
            step += 1
            if step == start + 1:
                jax.block_until_ready(run)
                chrono.restart()  # the first step was compiled
            else:
                chrono.count(config.batch_size)
            # ---- log
            if step % config.log_every == 0 or step == steps:
                # The mark of the line before, which is there already: the host waits for no step just sent off.
                trouble, mark = int(mark), metrics.pop(health.MARK)
                log.later(step, metrics, chrono.read())
        profile.stop(run)
        log.close()
        checkpoints.close()
        if host == 0:
            curves.save(folder)
    if trouble:
        print(
            f"step {step + 1}: {health.name(trouble, metrics, run.trainable)} is not finite; the state before it is "
            "saved. The same command tries the step again; a smaller config.optim.lr wants a new --workdir",
            file=sys.stderr,
        )
        return 1
    if interrupt.exit_code:
        print(f"stopped at step {step} of {steps}, saved", file=sys.stderr)
    return interrupt.exit_code


@contextlib.contextmanager
def _rescued(rescue):
    """Where a picture cannot be read, `rescue` first, then UserError saying how to go on."""
    try:
        yield
    except UnreadableImage as error:
        step = rescue()
        saved = "" if step is None else f"; the state of step {step} is saved"
        raise UserError(
            f"{error}{saved}. Repair the picture and run the same command to go on, or take it out of the data and "
            "train into a new --workdir"
        ) from error


def opened(config: ml_collections.ConfigDict) -> tuple[Source, bool]:
    """The configured data set under its split, and whether that is its authors' own. Raises as opening does."""
    data = config.data
    source = open_configured(data, in_config)
    if not data.split_file:
        return source, data.kind == "tfds"
    split = Split.load(data.split_file)
    return split.assigned(source), split.official


def sources(config: ml_collections.ConfigDict):
    """The training and the validation part of the configured data.

    Raises:
      UserError: the data cannot be opened; the message says what to change.
    """
    data = config.data
    try:
        source, official = opened(config)
        floor = data.min_mos or None
        parts = select(source, data.train, data.fold, floor), select(source, data.val, data.fold, floor)
        if shared := require_separate_contents(source, *parts, official):
            print(f"warning: {shared}", file=sys.stderr)
        return parts
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error


def _claim(folder: pathlib.Path, config: ml_collections.ConfigDict, begun: bool, first: bool) -> None:
    """Write the configuration into a workdir; refuse one where another configuration has got as far as a checkpoint."""
    path = folder / "config.json"
    text = json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"
    if not begun or not path.exists():
        if first:
            write_whole(path, text.encode())
        return
    before, now = (fixed_on_resume(json.loads(each)) for each in (path.read_text(), text))
    changed = sorted(key for key in before.keys() | now.keys() if now.get(key) != before.get(key))
    if changed:
        raise UserError(
            f"{folder} holds a run of another configuration (it differs in {', '.join(changed)}); "
            "give another --workdir, or the same configuration to go on"
        )
