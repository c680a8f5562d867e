"""Scoring on Apache Beam: the rows of `driqa score`, whatever runs it; the broken beside; the model loaded once."""

import collections
import csv
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

pytest.importorskip("apache_beam", reason="needs the extra: pip install 'driqa_jax[beam]'")

from tiny_model import tiny
from tiny_scorer import METADATA, tiny_scorer

from driqa_jax.checkpoints.weights import save_weights
from driqa_jax.cli.main import main as driqa
from driqa_jax.inference import beam as scoring
from driqa_jax.models.driqa import VARIANTS

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "launch" / "score_beam.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("score_beam", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A weights file of the tiny model, which this process can load."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_weights(path, jax.device_get(tiny_scorer().params), METADATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "tiny", tiny)
        yield str(path)


@pytest.fixture
def photos(tmp_path):
    """The example photographs with two broken files among them, one under a name that is no text."""
    folder = tmp_path / "photos"
    shutil.copytree(ROOT / "examples" / "photos", folder, ignore=shutil.ignore_patterns("*.md", "*.webp"))
    (folder / "broken.jpg").write_bytes((folder / "dog.jpg").read_bytes()[:5000])
    (folder / "empty.jpg").write_bytes(b"")
    shutil.copy(folder / "city.jpg", folder / os.fsdecode(b"latin\xe9.jpg"))
    return folder


def rows_of(folder, pattern):
    """Rows of CSV shards, and the headers that they have."""
    rows, headers = [], set()
    for shard in sorted(folder.glob(pattern)):
        with open(shard, encoding="utf-8", errors="surrogateescape", newline="") as file:
            header, *found = csv.reader(file)
        headers.add(tuple(header))
        rows += found
    return rows, headers


def test_rows_are_those_of_driqa_score(script, model, photos, tmp_path, capsys):
    assert driqa(["score", str(photos), "--model", model, "-o", str(tmp_path / "expected.csv")]) == 1
    expected, headers = rows_of(tmp_path, "expected.csv")
    out = tmp_path / "out"
    out.mkdir()
    code = script.main(["--input", f"{photos}/*.jpg", "-o", f"{out}/s.csv", "--model", model, "--shards", "3"])
    assert code == 1 and "12 scored, 2 failed" in capsys.readouterr().err
    assert len(list(out.glob("s-*-of-00003.csv"))) == 3
    rows, found_headers = rows_of(out, "s-*.csv")
    assert found_headers == headers
    assert sorted(rows) == sorted(row for row in expected if row[1])
    failed, header = rows_of(out, "s.failed-*.csv")
    assert header == {("path", "error")}
    assert sorted(failed) == sorted([row[0], row[-1]] for row in expected if not row[1])
    meta = json.loads((out / "s.meta.json").read_text())
    assert meta["scored"] == 12 and meta["failed"] == 2 and meta["model"] == model and meta["view"] == METADATA["view"]
    assert any(row[0].encode(errors="surrogateescape").endswith(b"latin\xe9.jpg") for row in rows)


def test_a_list_of_paths_to_json_lines_and_the_model_loaded_once(script, model, photos, tmp_path, monkeypatch, capsys):
    loads = collections.Counter()
    load = scoring.load
    monkeypatch.setattr(scoring, "load", lambda *args, **options: (loads.update([args]), load(*args, **options))[1])
    names = [str(photos / name) for name in ("dog.jpg", "city.jpg", "absent.jpg", "nyc.jpg")]
    (tmp_path / "list.txt").write_text("\n".join([*names, "", names[0]]))
    monkeypatch.setattr(scoring, "_BYTES", 1)  # a picture a batch
    code = script.main(
        ["--paths-from", str(tmp_path / "list.txt"), "-o", str(tmp_path / "s.jsonl"), "--model", model]
        + ["--direct_num_workers", "2", "--direct_running_mode=multi_threading"]
    )
    assert code == 1 and "4 scored, 1 failed" in capsys.readouterr().err
    rows = [json.loads(line) for path in tmp_path.glob("s-*.jsonl") for line in path.read_text().splitlines()]
    assert collections.Counter(row["path"] for row in rows) == collections.Counter([*names[:2], names[3], names[0]])
    assert all(0 <= row["score"] <= 100 and row["error"] is None for row in rows)
    (failed,) = [json.loads(line) for path in tmp_path.glob("s.failed-*") for line in path.read_text().splitlines()]
    assert failed == {"path": names[2], "error": "No such file or directory"}
    assert loads.total() == 1


def test_what_is_wrong_is_said_before_anything_runs(script, photos, tmp_path, capsys):
    out = ["-o", str(tmp_path / "s.csv")]
    for arguments, said in [
        (["--input", str(photos), *out], "is a folder; say which files"),
        (["--input", f"{photos}/*.gif", *out], "*.gif: matches nothing"),
        (["--paths-from", str(tmp_path / "absent.txt"), *out], "absent.txt: matches nothing"),
        (["--input", f"{photos}/*.jpg", "-o", "s.txt"], "s.txt: the extension must be one of .csv, .jsonl"),
        (["--input", f"{photos}/*.jpg", "--model", "nonesuch", *out], "no model 'nonesuch'"),
        (out, "nothing to score"),
    ]:
        assert script.main(arguments) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("s*"))


def test_several_processes_give_the_same_rows(tmp_path):
    photos = ROOT / "examples" / "photos"
    expected = tmp_path / "expected.csv"
    assert driqa(["score", str(photos), "-o", str(expected)]) == 0
    cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--input", f"{photos}/*.jpg", "--input", f"{photos}/*.webp"]
        + ["-o", f"{tmp_path}/s.csv", "--direct_running_mode=multi_processing", "--direct_num_workers=2"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **cache},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "12 scored, 0 failed" in done.stderr
    rows, _ = rows_of(tmp_path, "s-*.csv")
    assert sorted(rows) == sorted(rows_of(tmp_path, "expected.csv")[0])
    assert not list(tmp_path.glob("s.failed*"))
