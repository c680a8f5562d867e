"""The built wheel holds the package and its data, and scores from another folder: nothing rests on the checkout."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    root, folder = pathlib.Path(__file__).resolve().parent.parent, tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("driqa_jax", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, source / name)
    build = [*PIP, "wheel", ".", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run(build, cwd=source, check=True)
    (built,) = folder.glob("driqa_jax-*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel, root):
    files = (path for path in (root / "driqa_jax").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {str(path.relative_to(root)) for path in files}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert found == expected
    assert {path.rpartition(".")[2] for path in found} >= {"py", "safetensors", "j2", "html", "js"}


def test_the_wheel_scores_from_another_folder(wheel, root, tmp_path):
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(root / "examples" / "photos" / "city.jpg", elsewhere)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import driqa_jax; print(driqa_jax.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(site))
    score = [sys.executable, "-m", "driqa_jax", "score", "city.jpg", "-o", "scores.csv", "--percentile"]
    subprocess.run(score, cwd=elsewhere, env=environment, check=True)
    header, row = (elsewhere / "scores.csv").read_text().splitlines()
    assert header == "path,score,uncertainty,error,percentile"  # the reference distribution is in the wheel
    assert 0 <= float(row.split(",")[1]) <= 100 and 0 <= float(row.split(",")[4]) <= 100
