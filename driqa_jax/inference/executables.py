"""Compiled programs, one per shape of views, cached on disk.

Loading a cached executable skips tracing and compilation, which take most of the start of a run. Its file name is a
hash of everything it depends on: model sources, configuration, shapes, options, jax and device (the folder adds jaxlib
and the kind of processor).
"""

import contextlib
import hashlib
import json
import os
import pathlib
import pickle
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.experimental import serialize_executable

from driqa_jax.inference.program import PREDICTIONS, Stage
from driqa_jax.inference.stream import Workers
from driqa_jax.io import write_bytes

_SOURCES = ("models/*.py", "inference/program.py", "inference/executables.py")


class Program:
    """`program(params, views)` runs the stages in sequence and compiles them for each new shape of views.

    Args:
      stages: from `driqa_jax.inference.program.make_stages`.
      device: where they run.
      folder: cache of executables; None disables it. Executables are unpickled, so only the user may write there.
      identity: JSON values that distinguish models with equal sources and shapes; None disables the cache.
    """

    def __init__(
        self, stages: Sequence[Stage], device: jax.Device, folder: pathlib.Path | None = None, identity: Any = None
    ):
        self._stages, self._device = stages, device
        self._folder, self._identity = folder, identity
        self._compiled: dict[str, list[Callable]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def __call__(self, params: Any, views: Mapping[str, Any]) -> jax.Array:
        """The predictions of the last stage, possibly still being computed; `params` must be on the device."""
        name = json.dumps({key: [list(views[key].shape), str(views[key].dtype)] for key in sorted(views)})
        if name not in self._compiled:
            # One thread compiles a new shape; others that need it wait.
            with self._locks.setdefault(name, threading.Lock()):
                if name not in self._compiled:
                    self._compiled[name] = self._load_or_compile(params, views, name)
        arrays = jax.device_put(dict(views), self._device)
        for stage in self._compiled[name]:
            arrays = {**arrays, **stage(params, arrays)}
        return arrays[PREDICTIONS]

    def _load_or_compile(self, params, views, name) -> list[Callable]:
        params, shapes = self._shapes(params), self._shapes(dict(views))
        files = self._files(params, name)
        pool, jobs = Workers(len(self._stages), "driqa-compile"), []
        reading = [pool.submit(_read, file, self._device) for file in files]
        cached = [read.result() for read in reading]
        if cached and None not in cached:
            pool.stop_when_done()
            return cached
        for stage in self._stages:
            # Compile one stage while Python traces the next.
            lowered = jax.jit(_uniquely_named(stage.function) if files else stage.function).lower(params, shapes)
            shapes = {**shapes, **self._shapes(lowered.out_info)}
            jobs.append(pool.submit(_compile, lowered, dict(stage.options)))
        pool.stop_when_done()
        compiled = [job.result() for job in jobs]
        for file, program in zip(files, compiled, strict=bool(files)):
            _write(file, program)
        return compiled

    def _shapes(self, tree):
        sharding = jax.sharding.SingleDeviceSharding(self._device)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    def _files(self, params, name) -> list[pathlib.Path]:
        if self._folder is None or self._identity is None:
            return []
        shapes = [[str(path), leaf.shape, str(leaf.dtype)] for path, leaf in jax.tree.leaves_with_path(params)]
        options = [dict(stage.options) for stage in self._stages]
        key = [self._identity, name, options, jax.__version__, shapes, os.environ.get("XLA_FLAGS", "")]
        key += [self._device.platform, self._device.id, self._device.device_kind]
        digest = hashlib.sha256(_sources())
        digest.update(json.dumps(key, sort_keys=True).encode())
        start = digest.hexdigest()[:32]
        return [self._folder / f"score-{start}-{number}.exe" for number in range(len(self._stages))]


def _uniquely_named(function):
    # An executable from jax's own compilation cache cannot be serialized again: it loads, but its functions are not
    # found. A unique name avoids that cache.
    def named(*args):
        return function(*args)

    named.__name__ = f"score_{uuid.uuid4().hex}"
    return named


def _compile(lowered, options):
    try:
        return lowered.compile(options)
    except Exception:
        if not options:
            raise
        return lowered.compile()


def _read(file: pathlib.Path, device: jax.Device) -> Callable | None:
    try:
        payload = pickle.loads(file.read_bytes())
        return serialize_executable.deserialize_and_load(*payload, backend=device.client, execution_devices=[device])
    except Exception:  # absent, corrupt or from another build: compile again
        return None


def _write(file: pathlib.Path, compiled) -> None:
    with contextlib.suppress(Exception):  # without the file, the next start compiles again
        write_bytes(file, pickle.dumps(serialize_executable.serialize(compiled)))


def _sources() -> bytes:
    package = pathlib.Path(__file__).resolve().parent.parent
    found = {pattern: sorted(package.glob(pattern)) for pattern in _SOURCES}
    if empty := [pattern for pattern, files in found.items() if not files]:
        raise RuntimeError(f"no source files match {', '.join(empty)} in {package}; update _SOURCES after moving files")
    files = sorted(file for matches in found.values() for file in matches)
    return b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
