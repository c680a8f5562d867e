"""Trainings in real processes on this machine, which are gone when a test ends, whatever happens in it."""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import jax
import tiny_config
from tiny_model import random_params, tiny

from driqa_jax.scoring.weights import save_weights
from driqa_jax.train.describe import describe

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 1500


class Ended:
    """Exit code, standard error and the moment of the end (time.monotonic) of a process."""

    def __init__(self, code: int, said: str, moment: float):
        self.code, self.said, self.moment = code, said, moment

    def __repr__(self):
        return f"exit code {self.code}\n{self.said[-6000:]}"


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def places(count: int) -> list[str]:
    """`--distributed` for each of `count` processes on this machine."""
    port = free_port()
    return [f"127.0.0.1:{port},{count},{index}" for index in range(count)]


def train(workdir, *words, devices: int = 4, distributed=("off",), scene=None, env=None) -> list[Ended]:
    """Run `driqa train` of the tiny model in as many processes as `distributed` has places, and wait for all.

    `devices`: of each; `scene`: see `train_process`; `env`: a dictionary for each process.
    """
    cache = {"PYTHONPATH": str(HERE.parent), "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    cache |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}
    start = [sys.executable, str(HERE / "train_process.py"), str(devices), json.dumps(scene or {}), "train"]
    words = [f"--config.init={_start()}", *words]
    rest = ["--config", str(HERE / "tiny_config.py"), "--workdir", str(workdir), *words]
    running = []
    with contextlib.ExitStack() as held:
        files = [held.enter_context(tempfile.TemporaryFile("w+")) for _ in distributed]
        held.callback(_kill, running)
        for place, own, file in zip(distributed, env or [{}] * len(distributed), files, strict=True):
            command = [*start, *rest, "--distributed", place]
            options = {"env": {**os.environ, **cache, **own}, "start_new_session": True}
            running.append(subprocess.Popen(command, stdout=file, stderr=file, **options))
        return _ended(running, files)


def _kill(running) -> None:
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@functools.cache
def _start() -> pathlib.Path:
    """A weights file of the tiny model."""
    config = tiny_config.get_config()
    path = pathlib.Path(tempfile.mkdtemp(prefix="driqa-tiny-")) / "tiny.safetensors"
    atexit.register(shutil.rmtree, path.parent)
    described = describe({"config": config.to_dict(), "examples": 0, "step": 0})
    save_weights(path, random_params(tiny(config.model)), described)
    return path


def _ended(running, files) -> list[Ended]:
    moments = [None] * len(running)
    until = time.monotonic() + PATIENCE
    while None in moments and time.monotonic() < until:
        for place, process in enumerate(running):
            if moments[place] is None and process.poll() is not None:
                moments[place] = time.monotonic()
        time.sleep(0.05)
    time.sleep(0.3)  # for the last words
    said = []
    for file in files:
        file.seek(0)
        said.append(file.read())
    assert None not in moments, f"still running after {PATIENCE} s:\n" + "\n=====\n".join(said)
    return [Ended(p.returncode, text, moment) for p, text, moment in zip(running, said, moments, strict=True)]
