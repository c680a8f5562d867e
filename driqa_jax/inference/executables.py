"""Compiled programs, one per shape of views, cached on disk.

Loading a cached executable skips tracing and compilation, which take most of the start of a run, and the import of
Flax. Its file name is a hash of everything it depends on: model sources, configuration, shapes, jax and device (the
folder adds jaxlib and the kind of processor).
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
      stages: makes them, see `driqa_jax.inference.program.make_stages`; called only to compile.
      device: where they run.
      folder: cache of executables; None disables it. Executables are unpickled, so only the user may write there.
      identity: JSON values that, with the sources and shapes, determine the stages; None disables the cache.
    """

    def __init__(
        self,
        stages: Callable[[], Sequence[Stage]],
        device: jax.Device,
        folder: pathlib.Path | None = None,
        identity: Any = None,
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
        file = self._file(params, name)
        cached = _read(file, self._device) if file else None
        if cached:
            return cached
        stages = self._stages()
        pool, jobs = Workers(len(stages), "driqa-compile"), []
        for stage in stages:
            # Compile one stage while Python traces the next.
            lowered = jax.jit(_uniquely_named(stage.function) if file else stage.function).lower(params, shapes)
            shapes = {**shapes, **self._shapes(lowered.out_info)}
            jobs.append(pool.submit(_compile, lowered, dict(stage.options)))
        pool.stop_when_done()
        compiled = [job.result() for job in jobs]
        if file:
            _write(file, compiled)
        return compiled

    def _shapes(self, tree):
        sharding = jax.sharding.SingleDeviceSharding(self._device)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    def _file(self, params, name) -> pathlib.Path | None:
        if self._folder is None or self._identity is None:
            return None
        key = [self._identity, name, shapes_of(params), jax.__version__, os.environ.get("XLA_FLAGS", "")]
        key += [self._device.platform, self._device.id, self._device.device_kind]
        return self._folder / f"score-{digest_of(key)}.exe"


def shapes_of(params: Any) -> list[list[Any]]:
    """Path, shape and dtype of each parameter, as JSON values."""
    return [[str(path), list(leaf.shape), str(leaf.dtype)] for path, leaf in jax.tree.leaves_with_path(params)]


def digest_of(key: Any) -> str:
    """32 hexadecimal digits that depend on JSON values and on the sources of the models and programs."""
    digest = hashlib.sha256(_sources())
    digest.update(json.dumps(key, sort_keys=True).encode())
    return digest.hexdigest()[:32]


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


def _read(file: pathlib.Path, device: jax.Device) -> list[Callable] | None:
    try:
        payloads = pickle.loads(file.read_bytes())
        pool = Workers(len(payloads), "driqa-read")
        jobs = [pool.submit(_loaded, payload, device) for payload in payloads]
        pool.stop_when_done()
        return [job.result() for job in jobs]
    except Exception:  # absent, corrupt or from another build: compile again
        return None


def _loaded(payload: tuple, device: jax.Device) -> Callable:
    return serialize_executable.deserialize_and_load(*payload, backend=device.client, execution_devices=[device])


def _write(file: pathlib.Path, compiled: list[Any]) -> None:
    with contextlib.suppress(Exception):  # without the file, the next start compiles again
        write_bytes(file, pickle.dumps([serialize_executable.serialize(each) for each in compiled]))


def _sources() -> bytes:
    package = pathlib.Path(__file__).resolve().parent.parent
    found = {pattern: sorted(package.glob(pattern)) for pattern in _SOURCES}
    if empty := [pattern for pattern, files in found.items() if not files]:
        raise RuntimeError(f"no source files match {', '.join(empty)} in {package}; update _SOURCES after moving files")
    files = sorted(file for matches in found.values() for file in matches)
    return b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
