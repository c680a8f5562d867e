"""Scripts and trainings in real processes on this machine, which are gone when a test ends, whatever happens in it."""

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

from driqa_jax.checkpoints.load import describe
from driqa_jax.checkpoints.weights import save_weights

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 600  # seconds; a start compiles what the cache does not hold yet


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
    start = ["train_process.py", str(devices), json.dumps(scene or {}), "train", f"--config.init={_start()}"]
    rest = ["--config", str(HERE / "tiny_config.py"), "--workdir", str(workdir), *words]
    return run([[*start, *rest, "--distributed", place] for place in distributed], env)


def run(scripts: list[list[str]], env: list[dict] | None = None) -> list[Ended]:
    """Run Python scripts of this folder with their arguments, all at once, and wait for all."""
    base = {**os.environ, "PYTHONPATH": str(HERE.parent), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    base["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    running = []
    with contextlib.ExitStack() as held:
        files = [held.enter_context(tempfile.TemporaryFile("w+")) for _ in scripts]
        held.callback(_kill, running)
        for (script, *words), own, file in zip(scripts, env or [{}] * len(scripts), files, strict=True):
            command = [sys.executable, str(HERE / script), *words]
            options = {"env": {**base, **own}, "start_new_session": True}
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
