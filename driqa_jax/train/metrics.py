"""Metrics of a run: one JSON object a line, and a line on standard error."""

import json
import math
import pathlib
import sys

from driqa_jax.atomic import write_whole
from driqa_jax.errors import UserError


class MetricLog:
    """`workdir/metrics.jsonl`, in the order of the steps.

    A resumed run drops the lines past the step that it starts from, and a line that a kill has cut short.

    Raises:
      UserError: the file cannot be written, here and in all methods; the checkpoints are not touched.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int, active: bool = True):
        self._active, self._pending = active, None
        if not active:
            return
        path = workdir / "metrics.jsonl"
        text = path.read_text(errors="replace") if path.exists() else ""
        kept = [line for line in text.splitlines() if _step_of(line) <= start_step]
        write_whole(path, "".join(line + "\n" for line in kept).encode())
        self._path, self._file = path, path.open("a")

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
        try:
            self._file.write(json.dumps({"step": step, **written}, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); mend that, and run the same command to go on"
            ) from error
        told = "  ".join(f"{name} {value:.4g}" for name, value in rounded.items())
        print(f"step {step}  {told}", file=sys.stderr, flush=True)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line, from a run that was killed
