"""Compiled programs of one function: one for each shape of views, kept in the user's cache folder.

A kept executable starts without tracing and without the compiler: that is most of a second run's start. Its name
says all that it depends on: the sources of the model, the configuration, shapes, options, jax and (through the
folder) jaxlib and the kind of processor.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax

# One thread for each program: several photos at once use the cores better than several threads for one photo,
# and no bit then depends on how many cores there are.
CPU_OPTIONS = {"xla_cpu_multi_thread_eigen": False}
_SOURCES = ("models/*.py", "scoring/program.py", "scoring/executables.py")


class Program:
    """`program(params, views)`: `function`, compiled for `device` where it meets a new shape of views.

    Args:
      function: of a nested dict of parameters and a dict of arrays, all with the batch axis; gives one array.
      device: where it runs.
      options: for XLA's compiler; where this version of it does not know them, they are left out.
      folder: where executables are kept; None: nowhere.
      identity: plain values, for JSON, that tell functions apart whose sources and shapes are the same.
    """

    def __init__(
        self,
        function: Callable[[Any, dict[str, Any]], Any],
        device: jax.Device,
        options: Mapping[str, Any] | None = None,
        folder: pathlib.Path | None = None,
        identity: Any = None,
    ):
        self._function, self._device, self._options = function, device, dict(options or {})
        self._folder, self._identity = folder, identity
        self._compiled: dict[str, Callable] = {}
        self._locks: dict[str, threading.Lock] = {}

    def __len__(self) -> int:
        """How many shapes have been met."""
        return len(self._compiled)

    def __call__(self, params: Any, views: Mapping[str, Any]) -> Any:
        """The function's array; `params` on the device already."""
        name = self._name(views)
        if name not in self._compiled:
            # Threads that meet a shape together wait for one of them to compile it.
            with self._locks.setdefault(name, threading.Lock()):
                if name not in self._compiled:
                    self._compiled[name] = self._made(params, views, name)
        return self._compiled[name](params, jax.device_put(dict(views), self._device))

    def _name(self, views: Mapping[str, Any]) -> str:
        return json.dumps({key: [list(views[key].shape), str(views[key].dtype)] for key in sorted(views)})

    def _made(self, params, views, name) -> Callable:
        shaped = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=jax.sharding.SingleDeviceSharding(self._device)),
            (params, dict(views)),
        )
        file = self._file(shaped[0], name)
        if file is not None and (kept := _read(file, shaped)) is not None:
            return kept
        lowered = jax.jit(self._function).lower(*shaped)
        try:
            compiled = lowered.compile(self._options)
        except Exception:
            if not self._options:
                raise
            compiled = lowered.compile()
        if file is not None:
            _write(file, compiled)
        return compiled

    def _file(self, params, name) -> pathlib.Path | None:
        if self._folder is None or self._identity is None:
            return None
        digest = hashlib.sha256(_sources())
        shapes = [[str(path), leaf.shape, str(leaf.dtype)] for path, leaf in jax.tree.leaves_with_path(params)]
        said = [self._identity, name, self._options, jax.__version__, self._device.platform, self._device.id, shapes]
        said.append([self._device.device_kind, os.environ.get("XLA_FLAGS", "")])
        digest.update(json.dumps(said, sort_keys=True).encode())
        return self._folder / f"score-{digest.hexdigest()[:32]}.exe"


def _read(file: pathlib.Path, shaped) -> Callable | None:
    from jax.experimental import serialize_executable

    try:
        data = file.read_bytes()
        one = jax.tree.structure(0)
        return serialize_executable.deserialize_and_load(data, jax.tree.structure((shaped, {})), one)
    except Exception:  # absent, torn, of another build: then it is made anew
        return None


def _write(file: pathlib.Path, compiled) -> None:
    from jax.experimental import serialize_executable

    part = file.with_suffix(f".{os.getpid()}.part")
    # A cache that cannot be written costs time, not scores.
    with contextlib.suppress(Exception):
        part.write_bytes(serialize_executable.serialize(compiled)[0])
        os.replace(part, file)


def _sources() -> bytes:
    package = pathlib.Path(__file__).resolve().parent.parent
    files = sorted(file for pattern in _SOURCES for file in package.glob(pattern))
    return b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
