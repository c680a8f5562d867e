"""Metrics of a run: one JSON object a line, a line on standard error, and TensorBoard where it is installed."""

import contextlib
import json
import math
import pathlib
import sys

from driqa_jax.errors import UserError
from driqa_jax.io import write_text
from driqa_jax.train import event_log


class MetricLog:
    """`workdir/metrics.jsonl`, in the order of the steps; with the extra `tensorboard` also `workdir/tensorboard`.

    A resumed run drops the lines past the step that it starts from, and a line that a kill has cut short.

    Raises:
      UserError: the file cannot be written, here and in all methods; the checkpoints are not touched.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int, active: bool = True):
        self._active, self._pending, self._board = active, None, None
        if not active:
            return
        path = workdir / "metrics.jsonl"
        text = path.read_text(errors="replace") if path.exists() else ""
        kept = [line for line in text.splitlines() if _step_of(line) <= start_step]
        write_text(path, "".join(line + "\n" for line in kept))
        self._path, self._file = path, path.open("a")
        if event_log.installed():
            with _written(workdir / "tensorboard"):
                self._board = event_log.EventLog(workdir / "tensorboard", start_step)

    def later(self, step: int, metrics: dict, rate: float | None) -> None:
        """Keep a training step's line until the next call: the host then never waits for a step just sent off.

        `metrics`: scalars on the device; `rate`: examples a second, left out if None.
        """
        self.flush()
        self._pending = step, {**metrics, **({} if rate is None else {"images_per_second": rate})}

    def flush(self) -> None:
        """Write what is kept."""
        pending, self._pending = self._pending, None
        if pending:
            self.write(*pending)

    def write(self, step: int, values: dict) -> None:
        """Add a line; floats are rounded to 6 significant digits, and null where undefined, as JSON has no NaN."""
        self.flush()
        if not self._active:
            return
        rounded = {name: float(f"{float(value):.6g}") for name, value in values.items()}
        written = {name: value if math.isfinite(value) else None for name, value in rounded.items()}
        with _written(self._path):
            self._file.write(json.dumps({"step": step, **written}, allow_nan=False) + "\n")
            self._file.flush()
        if self._board:
            with _written(self._path.parent / "tensorboard"):
                self._board.write(step, {name: value for name, value in written.items() if value is not None})
        told = "  ".join(f"{name} {value:.4g}" for name, value in rounded.items())
        print(f"step {step}  {told}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Write what is kept."""
        self.flush()
        if self._board:
            self._board.close()


@contextlib.contextmanager
def _written(path: pathlib.Path):
    try:
        yield
    except OSError as error:
        said = f"{path}: cannot be written ({error.strerror}); mend that, and run the same command to go on"
        raise UserError(said) from error


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line, from a run that was killed
