"""What stands in for a reader's files and models while the documents' blocks run.

- **Files**: a folder with generated pictures and ratings under the names that the documents use (`FOLDERS`, `PICTURES`,
  `ratings.csv`, a BIQ2021 and a KonIQ-10k in their authors' layout), and links to `configs`, `launch`, `examples`,
  `docs` and `tests`.
- **Models**: the variant `lite` is the tiny model of the tests, the bundled weights are random; the long set also runs
  the pages without training blocks on the bundled weights.
- **Steps**: `SHORTER` lists the options that are added to commands that train or measure.
- **`driqa`**: a script that has the test's process run `driqa_jax.cli.main`, so that all commands share imports and
  compiled programs. Everything else (`find`, `python`, pipes) is the shell's own.
"""

import contextlib
import json
import os
import pathlib
import selectors
import shlex
import socket
import subprocess
import sys
import traceback

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image
from small_sets import COUNTS, write_koniq10k
from test_biq2021 import TEST, TRAIN, write_biq2021
from tiny_model import random_params, tiny
from tiny_scorer import METADATA

from driqa_jax.checkpoints import weights
from driqa_jax.cli.main import main
from driqa_jax.data.datasets import biq2021 as biq2021
from driqa_jax.data.datasets import koniq10k as koniq10k
from driqa_jax.degradations import NAMES
from driqa_jax.models import driqa
from driqa_jax.reports.reference import Reference, reference_path
from driqa_jax.train import initialization
from experiments.deduction.visible import SHARES, TYPES

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURES = ("photo.jpg", "photo.png", "other.png", "one.jpg")
FOLDERS = {"holiday": ("jpg", 3), "scans": ("png", 2), "photos": ("jpg", 12), "pristine": ("png", 4)}
_TRAINING = ["steps=2", "batch_size=8", "log_every=1", "eval_every=0", "view.short=64", "view.canvas=(64,64)"]
_TRAINING += ["view.tile=64", "pretrain.crop=64", "pretrain.chains=2", "pretrain.block=0", "data.min_mos=0.0"]
_TRAINING += ["data.halve=False", "rank.every=1", "twins.every=1"]
SHORTER = {
    ("train",): [f"--config.{each}" for each in _TRAINING],
    ("protocol", "--config"): [
        *(f"--config.base.{each}" for each in _TRAINING),
        "--config.splits.numbers=(0,)",
        "--config.seeds=(0,)",
        "--config.bootstrap=20",
    ],
    ("evaluate",): ["--bootstrap=50"],
    ("degrade", "corpus"): ["--config.corpus.count=16", "--config.corpus.shard_size=16"],
    ("examine",): ["--count=4"],
}
_DRIQA = """#!{python} -SE
import json, os, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({path!r})
socket.send_fds(asked, [json.dumps([os.getcwd(), sys.argv[1:]]).encode()], [0, 1, 2])
sys.exit(int(asked.recv(16) or b"70"))
"""


def names() -> dict:
    """What the Python blocks take for given: arrays, a PIL image, paths, ratings."""
    rng = np.random.default_rng(7)
    return {
        "np": np,
        "jax": jax,
        "jnp": jnp,
        "array": np.asarray(picture(1)),
        "image": picture(2),
        "photos": sorted(str(path) for path in pathlib.Path("photos").iterdir()),
        "my_mos": np.linspace(1.0, 5.0, 12),
        "images": jnp.asarray(rng.random((2, 96, 128, 3)), jnp.float32),
    }


def picture(seed: int, side: int = 232) -> Image.Image:
    """A smooth picture unlike that of any other seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(rough).resize((side + 8 * (seed % 4), side), Image.Resampling.BICUBIC)


def fill(folder: pathlib.Path) -> None:
    """Write the files that the documents name."""
    for name in ("configs", "launch", "examples", "docs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for seed, name in enumerate(PICTURES):
        picture(seed).save(folder / name)
    for name, (kind, count) in FOLDERS.items():
        (folder / name).mkdir()
        for seed in range(count):
            picture(seed).save(folder / name / f"{seed:02}.{kind}")
    rows = [f"photos/{seed:02}.jpg,{0.3 + 0.03 * seed:.2f}" for seed in range(12)]
    (folder / "ratings.csv").write_text("\n".join(["image,mos", *rows, ""]))
    (folder / "sweep.txt").write_text("--config.optim.lr=1e-3\n--config.optim.lr=5e-4 --config.optim.ema=0.99\n")
    write_biq2021(folder / "BIQ2021")
    write_koniq10k(folder / "KonIQ-10k")


@contextlib.contextmanager
def small_sets():
    """The generated data sets count as whole."""
    counts = [(biq2021.LAYOUT, {"train": len(TRAIN), "test": len(TEST)}), (koniq10k.LAYOUT, COUNTS["koniq10k"])]
    before = [(layout, dict(layout.counts)) for layout, _ in counts]
    for layout, small in counts:
        layout.counts.update(small)
    try:
        yield
    finally:
        for layout, whole in before:
            layout.counts.clear()
            layout.counts.update(whole)


def use_tiny_lite(patch, folder: pathlib.Path) -> None:
    """Make `lite` and `lite-0.5` tiny models of their forms with random weights, wherever the package looks them up."""
    interaction = {**METADATA["config"], "variant": "lite", "types": list(NAMES)}
    head = {"level_width": 8, "drop_width": 8, "shares": list(SHARES), "top": 0.9}
    configs = {
        "lite": {**interaction, "types": list(TYPES), "form": "deduction", "statistics": False, "head": head},
        "lite-0.5": interaction,
    }
    files = {name: folder / f"{name}.safetensors" for name in configs}
    for name, config in configs.items():
        params = random_params(tiny(ml_collections.ConfigDict(config)))
        header = {**METADATA, "variant": "lite", "config": config, "degradations": config["types"]}
        sha256 = weights.save_weights(files[name], params, header)
        known = Reference(np.linspace(0, 100, 201), 1000, "generated", "none", "2026-01-01", sha256, "default")
        known.save(reference_path(files[name]))
    patch.setitem(driqa.VARIANTS, "lite", tiny)
    patch.setattr(initialization, "imagenet_weights", lambda: ({}, None))
    original = weights.bundled_files
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("driqa_jax") and vars(module).get("bundled_files") is original:
            patch.setattr(module, "bundled_files", lambda: files)


def shorter(arguments: list[str]) -> list[str]:
    """The arguments of `driqa` with the options that make it short."""
    for words, more in SHORTER.items():
        if arguments[: len(words)] == list(words):
            return [*arguments, *more]
    return arguments


def run_shell(text: str, folder: pathlib.Path, scratch: pathlib.Path) -> tuple[int, str]:
    """Run a block in `folder` by bash, its `driqa` in this process; the exit code and all that was printed."""
    scratch.mkdir(exist_ok=True)
    path, program, log = scratch / "socket", scratch / "driqa", scratch / "output.txt"
    path.unlink(missing_ok=True)
    program.write_text(_DRIQA.format(python=sys.executable, path=str(path)))
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{scratch}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    with socket.socket(socket.AF_UNIX) as server, log.open("w+") as output:
        server.bind(str(path))
        server.listen()
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        with selectors.DefaultSelector() as ready:
            ready.register(server, selectors.EVENT_READ)
            while shell.poll() is None:
                if ready.select(timeout=0.1):
                    _answer(server)
        output.seek(0)
        return shell.returncode, output.read()


def _answer(server):
    asked, _ = server.accept()
    with asked:
        message, fds, _, _ = socket.recv_fds(asked, 65536, 3)
        where, arguments = json.loads(message)
        try:
            with contextlib.chdir(where), _standing_for(fds):
                code = _run_driqa(shorter(arguments))
        finally:
            for fd in fds:
                os.close(fd)
        asked.sendall(str(code).encode())


def _run_driqa(arguments):
    print(f"+ driqa {shlex.join(arguments)}", file=sys.stderr)
    try:
        return main(arguments)
    except SystemExit as left:
        return left.code or 0
    except BaseException:
        traceback.print_exc()
        return 70


@contextlib.contextmanager
def _standing_for(fds):
    """Standard input, output and error are those of another process."""
    before = sys.stdin, sys.stdout, sys.stderr
    kept = [os.dup(fd) for fd in (0, 1, 2)]
    for stream in before[1:]:
        stream.flush()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(os.dup(fd), mode, encoding="utf-8") for fd, mode in zip((0, 1, 2), "rww", strict=True)
    )
    try:
        yield
    finally:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        sys.stdin, sys.stdout, sys.stderr = before
        for number, fd in enumerate(kept):
            os.dup2(fd, number)
            os.close(fd)
