"""The parameters of a training's best evaluation, kept in one small file."""

from __future__ import annotations

import math
import pathlib

import jax
import numpy as np
import safetensors
import safetensors.numpy

from driqa_jax.checkpoints.weights import flatten, unflatten
from driqa_jax.io import write_whole


class Best:
    """The parameters of the evaluation of the highest SRCC, the first of several; a file, so that a stop loses none."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def offer(self, step: int, params: dict, srcc: float | None) -> None:
        """Keep these parameters if none better are kept; an undefined SRCC (None, nan) is worse than any."""
        value = -math.inf if srcc is None or math.isnan(srcc) else srcc
        if self._path.exists() and value <= self._srcc():
            return
        tensors = {name: np.asarray(array, order="C") for name, array in flatten(params).items()}
        if jax.process_index() == 0:
            write_whole(self._path, safetensors.numpy.save(tensors, {"step": str(step), "srcc": repr(value)}))

    def load(self) -> tuple[int, dict]:
        """The step and the parameters, nested, float32."""
        return int(self._header()["step"]), unflatten(safetensors.numpy.load_file(self._path))

    def _srcc(self) -> float:
        return float(self._header()["srcc"])

    def _header(self) -> dict[str, str]:
        with safetensors.safe_open(self._path, framework="numpy") as file:
            return file.metadata()
