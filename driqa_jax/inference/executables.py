"""Compiled programs, one for each shape of views, kept in the user's cache folder.

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
import pickle
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from driqa_jax.inference.program import FOUND, Stage
from driqa_jax.inference.workers import Workers

_SOURCES = ("models/*.py", "inference/program.py", "inference/executables.py")


class Program:
    """`program(params, views)`: stages, compiled for `device` where they meet a new shape of views.

    Args:
      stages: of `driqa_jax.inference.program.make_stages`, computed one after another.
      device: where they run.
      folder: where executables are kept; None: nowhere. They are loaded with pickle, so it must be the user's own.
      identity: plain values, for JSON, that tell models apart whose sources and shapes are the same.
    """

    def __init__(
        self, stages: Sequence[Stage], device: jax.Device, folder: pathlib.Path | None = None, identity: Any = None
    ):
        self._stages, self._device = stages, device
        self._folder, self._identity = folder, identity
        self._compiled: dict[str, list[Callable]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def __len__(self) -> int:
        """How many shapes have been met."""
        return len(self._compiled)

    def __call__(self, params: Any, views: Mapping[str, Any]) -> jax.Array:
        """What the last stage finds, perhaps still under way; `params` on the device already."""
        name = json.dumps({key: [list(views[key].shape), str(views[key].dtype)] for key in sorted(views)})
        if name not in self._compiled:
            # Threads that meet a shape together wait for one of them to compile it.
            with self._locks.setdefault(name, threading.Lock()):
                if name not in self._compiled:
                    self._compiled[name] = self._made(params, views, name)
        known = jax.device_put(dict(views), self._device)
        for stage in self._compiled[name]:
            known = {**known, **stage(params, known)}
        return known[FOUND]

    def _made(self, params, views, name) -> list[Callable]:
        params, known = self._shapes(params), self._shapes(dict(views))
        files = self._files(params, name)
        pool, jobs = Workers(len(self._stages), "driqa-compile"), []
        reading = [pool.submit(_read, file, self._device) for file in files]
        kept = [read.result() for read in reading]
        if kept and None not in kept:
            pool.stop_when_done()
            return kept
        for stage in self._stages:
            # The compiler works on one stage while Python traces the next.
            lowered = jax.jit(_unheard_of(stage.function) if files else stage.function).lower(params, known)
            known = {**known, **self._shapes(lowered.out_info)}
            jobs.append(pool.submit(_compile, lowered, dict(stage.options)))
        pool.stop_when_done()
        compiled = [job.result() for job in jobs]
        for file, program in zip(files, compiled, strict=bool(files)):
            _write(file, program)
        return compiled

    def _shapes(self, tree):
        place = jax.sharding.SingleDeviceSharding(self._device)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    def _files(self, params, name) -> list[pathlib.Path]:
        if self._folder is None or self._identity is None:
            return []
        shapes = [[str(path), leaf.shape, str(leaf.dtype)] for path, leaf in jax.tree.leaves_with_path(params)]
        options = [dict(stage.options) for stage in self._stages]
        said = [self._identity, name, options, jax.__version__, shapes, os.environ.get("XLA_FLAGS", "")]
        said += [self._device.platform, self._device.id, self._device.device_kind]
        digest = hashlib.sha256(_sources())
        digest.update(json.dumps(said, sort_keys=True).encode())
        start = digest.hexdigest()[:32]
        return [self._folder / f"score-{start}-{number}.exe" for number in range(len(self._stages))]


def _unheard_of(function):
    # What jax takes from its own cache of compiled programs cannot be serialized again: it loads, and then its
    # functions are not found. Under a name of its own it is not taken from there.
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
    from jax.experimental import serialize_executable

    try:
        kept = pickle.loads(file.read_bytes())
        return serialize_executable.deserialize_and_load(*kept, backend=device.client, execution_devices=[device])
    except Exception:  # absent, torn, of another build: then it is made anew
        return None


def _write(file: pathlib.Path, compiled) -> None:
    from jax.experimental import serialize_executable

    part = file.with_suffix(f".{os.getpid()}.part")
    # A cache that cannot be written costs time, not scores.
    with contextlib.suppress(Exception):
        part.write_bytes(pickle.dumps(serialize_executable.serialize(compiled)))
        os.replace(part, file)


def _sources() -> bytes:
    package = pathlib.Path(__file__).resolve().parent.parent
    found = {pattern: sorted(package.glob(pattern)) for pattern in _SOURCES}
    if empty := [pattern for pattern, files in found.items() if not files]:
        raise RuntimeError(f"no source files match {', '.join(empty)} in {package}; update _SOURCES after moving files")
    files = sorted(file for matches in found.values() for file in matches)
    return b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
