"""What a run of `driqa score` imports: the start of a process is most of the time of one photograph."""

import os
import subprocess
import sys

import pytest
from PIL import Image

# Prints the packages that a command has imported, and what it compiled.
COMMAND = """
import sys
from driqa_jax.cli.main import main
code = main(sys.argv[1:])
print("imported", *sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(code)
"""
SLOW_TO_IMPORT = {"flax", "ml_collections", "optax", "orbax", "scipy", "tensorflow"}


def imported(tmp_path, *words):
    """(packages, rows) of a command in a new process, whose cache is in `tmp_path`."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "DRIQA_COMPILE_CACHE": "1"}
    done = subprocess.run([sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    *rows, last = done.stdout.splitlines()
    return set(last.split()), rows


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "a.png"
    Image.effect_noise((96, 64), 40).convert("RGB").save(path)
    return str(path)


def test_a_second_run_in_jax_imports_no_flax(tmp_path, photo):
    words = ["score", photo, "--runtime", "jax", "--effort", "fast"]
    first, row = imported(tmp_path, *words)
    assert SLOW_TO_IMPORT & first == {"flax", "ml_collections"}
    second, again = imported(tmp_path, *words)
    assert row == again and "jax" in second
    assert not SLOW_TO_IMPORT & second
