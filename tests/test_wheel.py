"""The built wheel, installed elsewhere, scores from another folder: nothing rests on the checkout."""

import os
import shutil
import subprocess
import sys


def test_the_wheel_scores_from_another_folder(root, tmp_path):
    source = tmp_path / "source"
    names = ["driqa_jax", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"]
    source.mkdir()
    for name in names:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True)
    (wheel,) = tmp_path.glob("driqa_jax-*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)

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
