"""What a run reports: metrics.jsonl, standard error, TensorBoard, curves, throughput and profiler traces."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from driqa_jax.errors import UserError
from driqa_jax.io import write_errors, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_CURVES = ("step", "images_per_second")
_ADVICE = "fix that and run the same command to resume"
CURVE_WINDOWS = 50  # the moving mean of a curve covers this fraction of the run


class MetricLog:
    """`workdir/metrics.jsonl` in the order of the steps, and `workdir/tensorboard` if tensorboardX is installed.

    A resumed run drops the lines after the step that it starts from, and a line that a kill cut short. All methods
    raise UserError if a file cannot be written; checkpoints are not affected.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int, active: bool = True):
        self._active, self._pending, self._board = active, None, None
        if not active:
            return
        path = workdir / "metrics.jsonl"
        text = path.read_text(errors="replace") if path.exists() else ""
        write_text(path, "".join(f"{line}\n" for line, row in _complete_lines(text) if row["step"] <= start_step))
        self._path, self._file = path, path.open("a")
        if tensorboard_installed():
            with write_errors(workdir / "tensorboard", _ADVICE):
                self._board = _new_event_file(workdir / "tensorboard", start_step)

    def later(self, step: int, metrics: dict, rate: float | None) -> None:
        """Keep the line of a training step until the next call, so that the host does not wait for that step.

        `metrics`: scalars on the device; `rate`: images per second, omitted if None.
        """
        self.flush()
        self._pending = step, {**metrics, **({} if rate is None else {"images_per_second": rate})}

    def flush(self) -> None:
        """Write the line that `later` kept."""
        pending, self._pending = self._pending, None
        if pending:
            self.write(*pending)

    def write(self, step: int, values: dict) -> None:
        """Add a line with floats of 6 significant digits; undefined values become null, since JSON has no NaN."""
        self.flush()
        if not self._active:
            return
        rounded = {name: float(f"{float(value):.6g}") for name, value in values.items()}
        written = {name: value if math.isfinite(value) else None for name, value in rounded.items()}
        with write_errors(self._path, _ADVICE):
            self._file.write(json.dumps({"step": step, **written}, allow_nan=False) + "\n")
            self._file.flush()
        if self._board:
            with write_errors(self._path.parent / "tensorboard", _ADVICE):
                _write_event(self._board, step, {name: value for name, value in written.items() if value is not None})
        line = "  ".join(f"{name} {value:.4g}" for name, value in rounded.items())
        print(f"step {step}  {line}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Write the line that `later` kept and close the TensorBoard file."""
        self.flush()
        if self._board:
            self._board.close()


def _new_event_file(folder: pathlib.Path, start_step: int):
    """A new TensorBoard event file in `folder`, written without TensorFlow.

    TensorBoard hides what an earlier run wrote after `start_step`. The library's `SummaryWriter` is not used: its
    thread dies with the first failed write, such as on a full disk, and the next write then waits forever.
    """
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    folder.mkdir(parents=True, exist_ok=True)
    file = EventsWriter(str(folder / "events"))
    file.write_event(Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START)))
    return file


def _write_event(file, step: int, values: dict[str, float]) -> None:
    """Write one event with all values of a step; returns once it is on disk."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
    file.write_event(Event(step=step, wall_time=time.time(), summary=summary))
    file.flush()


def tensorboard_installed() -> bool:
    """Whether tensorboardX, the extra `tensorboard`, is installed."""
    return importlib.util.find_spec("tensorboardX") is not None


class Chrono:
    """Images per second between two readings, without compilation and without what ran under `paused`.

    Source: the idea of big_vision's `Chrono`.
    """

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Discard what was counted so far."""
        self._start, self._lost, self._examples = time.monotonic(), 0.0, 0

    def count(self, examples: int) -> None:
        """Add examples that were trained on."""
        self._examples += examples

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of this block."""
        start = time.monotonic()
        yield
        self._lost += time.monotonic() - start

    def read(self) -> float | None:
        """Examples per second since the last reading; None if none were counted."""
        seconds = time.monotonic() - self._start - self._lost
        rate = self._examples / seconds if self._examples and seconds > 0 else None
        self.restart()
        return rate


class Profile:
    """A profiler trace of `span[1]` steps from step `span[0]` on, written to `folder`; () traces none.

    Raises UserError if `span` is neither empty nor (first step >= 0, number of steps >= 1).
    """

    def __init__(self, folder: pathlib.Path, span: tuple[int, ...]):
        if span and (len(span) != 2 or any(type(number) is not int for number in span) or span[1] < 1 or span[0] < 0):
            raise UserError(f"config.profile must be (first step, number of steps), as (10, 3), or (); got {span!r}")
        self._folder, self._span, self._active = folder, span, False

    def before(self, step: int, state: Any) -> None:
        """Call before step `step` (from 0) is dispatched; `state` is its input."""
        if not self._span:
            return
        if self._active and step >= sum(self._span):
            self.stop(state)
        if step == self._span[0]:
            jax.block_until_ready(state)  # earlier steps must not appear in the trace
            jax.profiler.start_trace(str(self._folder))
            self._active = True

    def stop(self, state: Any) -> None:
        """End an active trace once its steps are done."""
        if self._active:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._active = False


def draw_curves(metrics: pathlib.Path) -> Figure:
    """A matplotlib Figure of a run's `metrics.jsonl`: one panel per quantity, validation as dots.

    Values of single steps are pale, their moving mean over a fiftieth of the run is dark. Incomplete lines and
    undefined values are skipped.
    """
    # Imported here because matplotlib loads slowly and a run should start at once.
    from driqa_jax.evaluation.figures import blank_figure

    series: dict[str, list[tuple[float, float]]] = {}
    for _, row in _complete_lines(metrics.read_text()):
        for name, value in row.items():
            if name not in NOT_CURVES and value is not None:
                series.setdefault(name, []).append((row["step"], value))
    names = sorted(series, key=lambda name: (name.startswith("val_"), name))
    columns = min(3, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure, panels = blank_figure(4 * columns, 2.6 * rows, rows, columns)
    panels = np.ravel(panels)
    for axes, name in zip(panels, names, strict=False):
        _draw_panel(axes, name, *np.array(series[name]).T)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel("step")
    return figure


def _draw_panel(axes, name: str, x: np.ndarray, y: np.ndarray) -> None:
    axes.set_title(name.replace("_", " "), fontsize=10)
    if name.startswith("val_"):
        axes.plot(x, y, "o-", color="#08519c", ms=4)
        return
    width = max(1, len(y) // CURVE_WINDOWS)
    axes.plot(x, y, color="#c6dbef", lw=0.8)
    axes.plot(x[width - 1 :], np.convolve(y, np.ones(width) / width, mode="valid"), color="#08519c", lw=1.4)
    if y.min() > 0 and y.max() > 20 * y.min():
        axes.set_yscale("log")


def save_curves(workdir: pathlib.Path) -> None:
    """Write `workdir/curves.png` from `workdir/metrics.jsonl`."""
    from driqa_jax.evaluation.figures import save_figure

    save_figure(draw_curves(workdir / "metrics.jsonl"), workdir / "curves.png")


def _complete_lines(text: str) -> Iterator[tuple[str, dict]]:
    """The lines of a log with their values, without those that a killed run left incomplete."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and "step" in row:
                yield line, row
