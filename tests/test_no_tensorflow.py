"""The run time is JAX alone: importing every module of the package brings in neither TensorFlow nor torch."""

import json
import pathlib
import subprocess
import sys

FORBIDDEN = ("tensorflow", "torch")

# A module of an optional extra may lack a third party's package: not our question. `__main__` would run.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import driqa_jax
walked, missing = [], {}
for module in pkgutil.walk_packages(driqa_jax.__path__, "driqa_jax.", onerror=lambda name: None):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        missing[module.name] = error.name
    walked.append(module.name)
seen = {"walked": walked, "missing": missing, "loaded": sorted(sys.modules), "at": driqa_jax.__file__}
print(json.dumps(seen))
"""


def import_all(root: pathlib.Path) -> dict:
    command = [sys.executable, "-c", IMPORT_ALL]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_everything_needs_no_tensorflow_and_no_torch(root):
    seen = import_all(root)
    assert pathlib.Path(seen["at"]).is_relative_to(root)
    assert "driqa_jax.losses.rs" in seen["walked"]
    assert not [name for name in FORBIDDEN if name in seen["loaded"]]
    asked = {module: name for module, name in seen["missing"].items() if name.split(".")[0] in FORBIDDEN}
    assert not asked, f"these modules import TensorFlow or torch at the top: {asked}"
    ours = {module: name for module, name in seen["missing"].items() if name.startswith("driqa_jax")}
    assert not ours, f"these modules import modules of ours that do not exist: {ours}"
