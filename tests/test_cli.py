"""The command: help without jax, exit codes, rows that survive what goes wrong."""

import argparse
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from fake_model import METADATA, fake_params, fake_scorer, pictures
from PIL import Image

from benchmarks.options import result_file
from driqa_jax.checkpoints.weights import save_weights
from driqa_jax.cli import main as cli
from driqa_jax.cli.train import parse_overrides
from driqa_jax.errors import UserError
from driqa_jax.train.config import default


@pytest.fixture(scope="module")
def scorer():
    return fake_scorer()


@pytest.fixture
def fake(monkeypatch, scorer):
    """`load` gives a scorer of a tiny model; what it was asked for stands in the list."""
    asked = []
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: asked.append((a, k)) or scorer)
    return asked


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.fromarray(pictures()[i]).save(folder / name)
    return folder


def driqa(*words, capsys=None):
    """Exit code, standard output and standard error of one command, in this process."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as leave:  # argparse
        code = leave.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_every_help_shows_an_example_and_imports_neither_jax_nor_numpy(root):
    code = (
        "import sys\n"
        "from driqa_jax.cli import main as cli\n"
        "for words in ['--help'], *([name, '--help'] for name in cli.COMMANDS):\n"
        "    print('=====', words)\n"
        "    try: cli.main(words)\n"
        "    except SystemExit as leave: assert leave.code == 0\n"
        "assert not {'jax', 'numpy', 'PIL', 'scipy', 'rich'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    helps = done.stdout.split("=====")[1:]
    assert len(helps) == len(cli.COMMANDS) + 1
    assert all("example" in text and "driqa" in text for text in helps)


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        [],
        ["score"],
        ["score", "a.png", "--batch-size", "0"],
        ["score", "a.png", "--modle", "x"],
    ],
)
def test_usage_errors_exit_2(words, capsys):
    code, out, err = driqa(*words, capsys=capsys)
    assert code == 2 and out == "" and "usage: driqa" in err


def test_a_folder_becomes_csv_in_order(fake, photos, scorer, capsys):
    code, out, err = driqa("score", photos, "--workers", 3, "--model", "some", capsys=capsys)
    results = scorer.stream(pictures()[:3])
    numbers = [f"{result.score:.2f},{result.uncertainty:.2f}" for result in results]
    names = [f"{photos}/{name}" for name in ("a.png", "b.png", "sub/c.png")]
    assert code == 0
    assert out.splitlines() == [
        "path,score,uncertainty,error",
        *(f"{n},{s}," for n, s in zip(names, numbers, strict=True)),
    ]
    assert "3 scored, 0 failed" in err
    assert fake == [
        (("some",), {"runtime": "auto", "effort": "default", "batch_size": None, "workers": 3, "max_pixels": 200e6})
    ]


def test_broken_files_keep_the_good_rows_and_exit_1(fake, photos, tmp_path, capsys):
    (photos / "b.png").write_bytes(b"")
    output = tmp_path / "scores.jsonl"
    code, out, err = driqa("score", photos, "-o", output, capsys=capsys)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert code == 1 and out == ""
    assert [row["score"] is None for row in rows] == [False, True, False] and "empty" in rows[1]["error"]
    assert f"{photos}/b.png: " in err and "2 scored, 1 failed" in err
    meta = json.loads((tmp_path / "scores.meta.json").read_text())
    assert meta["failed"] == 1 and meta["complete"] and len(meta["sha256"]) == 64
    assert {"model", "view", "calibration", "degradations", "versions"} <= set(meta)


def test_all_broken_exits_1(fake, tmp_path, capsys):
    (tmp_path / "x.jpg").write_bytes(b"not a picture")
    code, out, _ = driqa("score", tmp_path / "x.jpg", capsys=capsys)
    assert code == 1 and "not a picture" in out.splitlines()[1]


def test_two_runs_write_the_same_bytes(fake, photos, tmp_path, capsys):
    for name in ("one.csv", "two.csv"):
        assert driqa("score", photos, "-o", tmp_path / name, capsys=capsys)[0] == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_input_errors_are_one_line_before_a_model_is_loaded(fake, photos, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, said in (
        ([empty], f"{empty}: no picture"),
        ([photos, tmp_path / "absent"], "no such file or folder"),
        ([photos, "-o", tmp_path / "x.txt"], "x.txt: the extension must be one of"),
        ([photos, "-o", tmp_path / "no" / "x.csv"], "does not exist; create it first"),
    ):
        code, out, err = driqa("score", *words, capsys=capsys)
        assert code == 2 and out == "" and said in err and len(err.splitlines()) == 1
    assert fake == []


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt, 130), (SystemExit(143), 143)])
def test_an_interrupt_leaves_valid_files(fake, photos, tmp_path, capsys, monkeypatch, scorer, error, code):
    class Interrupted:
        def __getattr__(self, name):
            return getattr(scorer, name)

        def stream(self, paths):
            yield from list(scorer.stream(paths))[:2]
            raise error

    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: Interrupted())
    assert driqa("score", photos, "-o", tmp_path / "s.csv", capsys=capsys)[0] == code
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "s.meta.json").read_text())["complete"] is False


def test_sigterm_and_a_closed_pipe_end_a_real_process_in_order(root, photos, tmp_path):
    code = (
        "import itertools, sys, os, signal; sys.path.insert(0, 'tests')\n"
        "import driqa_jax.inference.scorer as scoring\n"
        "class Endless:\n"
        "    def __getattr__(self, name): return getattr(inner, name)\n"
        "    def stream(self, paths):\n"
        "        for path in paths:\n"
        "            yield scoring.Result('a.png', 50.0)\n"
        "            if 'kill' in sys.argv: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from fake_model import fake_scorer; inner = fake_scorer()\n"
        "from driqa_jax.reports import inputs as listing\n"
        "listing.list_pictures = lambda paths: itertools.repeat('a.png')\n"
        "scoring.load = lambda *a, **k: Endless()\n"
        "from driqa_jax.cli.main import main\n"
        "sys.exit(main(['score', *sys.argv[2:]]))\n"
    )

    def start(how, *words):
        command = [sys.executable, "-c", code, how, str(photos), *words]
        return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    killed, piped = start("kill", "-o", str(tmp_path / "s.csv")), start("pipe")
    assert piped.stdout.readline() == "path,score,uncertainty,error\n"
    piped.stdout.close()
    assert killed.wait(30) == 128 + signal.SIGTERM
    assert (tmp_path / "s.csv").read_text() == "path,score,uncertainty,error\na.png,50.00,,\n"
    said = piped.stderr.read()
    assert piped.wait(30) == 1 and "Traceback" not in said and "BrokenPipe" not in said
    killed.stdout.close(), killed.stderr.close(), piped.stderr.close()


def test_on_a_terminal_there_is_a_table(fake, photos, capsys, monkeypatch):
    (photos / "b.png").write_bytes(b"[bold]no[/bold]")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = driqa("score", photos, capsys=capsys)
    assert code == 1 and "path,score" not in out
    assert "c.png" in out and "not a picture" in out and "2 scored, 1 failed" in err


def test_evaluate_writes_figures_and_provenance(fake, photos, tmp_path, scorer, capsys):
    mos = [0.2, 0.9, 0.5]
    rows = [
        f"{name},{value},{split}"
        for name, value, split in zip(("a.png", "b.png", "sub/c.png"), mos, ("test", "test", "train"), strict=True)
    ]
    (photos / "ratings.csv").write_text("image,mos,split\n" + "\n".join(rows) + "\n")
    result = tmp_path / "r.json"
    code, out, err = driqa(
        "evaluate", "--data", photos / "ratings.csv", "--split", "all", "-o", result,
        "--figures", tmp_path / "figures", capsys=capsys
    )  # fmt: skip
    assert code == 0 and "SRCC" in out
    assert (tmp_path / "figures" / "coverage.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads(result.read_text())
    predicted = scorer(pictures()[:3]) / 100
    assert report["n"] == 3 and report["failed"] == []
    assert report["metrics"]["rmse"] == pytest.approx(np.sqrt(np.mean((predicted - mos) ** 2)))
    assert report["provenance"]["sha256"] == scorer.sha256
    assert len(report["provenance"]["data"]["labels_sha256"]) == 64
    half = np.array([found.uncertainty for found in scorer.stream(pictures()[:3])]) / 100
    assert report["coverage"]["held"] == pytest.approx(np.mean(np.abs(predicted - mos) <= half))
    assert report["coverage"]["half_width"] == pytest.approx(half.mean())
    assert "intervals that should hold 90% of the MOS hold" in out

    (photos / "b.png").write_bytes(b"")
    code, _, err = driqa("evaluate", "--data", photos / "ratings.csv", "--split", "test", capsys=capsys)
    assert code == 1 and "b.png" in err
    for words, said in (
        (["--data", photos / "ratings.csv", "--split", "val"], "'val'"),
        (["--data", "biq2021"], "--data-dir"),
        (["--data", tmp_path / "none.csv"], "none.csv"),
    ):
        code, _, err = driqa("evaluate", *words, capsys=capsys)
        (line,) = [line for line in err.splitlines() if "scores from the column" not in line]
        assert code == 2 and said in line


def test_novel_images_have_a_group_in_one_split_only():
    from driqa_jax.data.splits import novel
    from driqa_jax.data.synthetic import FakeSource

    source = FakeSource(count=4)
    source._columns["group"] = np.array(["x", "y", "x", "z"])
    source._columns["split"] = np.array(["train", "test", "test", "test"])
    assert novel(source, source).tolist() == [False, True, False, True]


def test_train_passes_overrides_and_exit_code(monkeypatch, capsys):
    seen, config = {}, default()
    monkeypatch.setattr(
        "driqa_jax.train.config.read", lambda path, overrides: seen.update(p=path, o=overrides) or config
    )
    monkeypatch.setattr("driqa_jax.train.loop.train", lambda config, workdir: seen.update(c=config, w=workdir) or 143)
    words = [
        "train",
        "--config",
        "c.py",
        "--config.optim.lr=1e-4",
        "--workdir",
        "w",
        "--config.data.path",
        "a=b.csv",
    ]
    assert driqa(*words, capsys=capsys)[0] == 143
    assert seen == {"o": ["optim.lr=1e-4", "data.path=a=b.csv"], "p": "c.py", "c": config, "w": "w"}


@pytest.mark.parametrize("words", [["--confg.a=1"], ["stray"], ["--config.a"], ["--config.a", "--config.b=1"]])
def test_invalid_overrides_are_refused(words):
    with pytest.raises(UserError, match=r"--config\."):
        parse_overrides(words)


def test_unknown_config_keys_exit_2_naming_the_nearest(root, tmp_path, capsys):
    config = root / "configs" / "biq2021_lite.py"
    code, _, err = driqa("train", "--config", config, "--workdir", tmp_path, "--config.optim.rl=1", capsys=capsys)
    assert code == 2 and "optim.lr" in err
    code, _, err = driqa("train", "--config", tmp_path / "no.py", "--workdir", tmp_path, capsys=capsys)
    assert code == 2 and "no.py" in err
    assert os.listdir(tmp_path) == []


def test_info_names_versions_devices_models_and_parts(tmp_path, capsys, monkeypatch):
    import types

    weights = tmp_path / "tiny.safetensors"
    sha256 = save_weights(weights, fake_params(), METADATA)
    monkeypatch.setattr("driqa_jax.checkpoints.weights.bundled_files", lambda: {"tiny": weights})
    part = types.SimpleNamespace(name="restoration", parameters=700_000, multiply_adds=480e6, milliseconds=12.25)
    summary = types.SimpleNamespace(summarize=lambda variant: [part])
    monkeypatch.setitem(sys.modules, "driqa_jax.models.summary", summary)
    code, out, _ = driqa("info", "--variant", "s", capsys=capsys)
    assert code == 0
    for said in (
        "s, one photo",
        "jax ",
        "cpu",
        "tiny: variant lite",
        sha256,
        "Apache-2.0",
        "restoration",
        "700,000",
        "480.0 M",
        "12.",
    ):
        assert said in out


def test_a_result_file_is_checked_and_its_folder_created_before_the_work(tmp_path):
    path = result_file(str(tmp_path / "new" / "folder" / "found.json"))
    path.write_text("{}")
    assert result_file(str(path)) == path and path.read_text() == "{}"
    with pytest.raises(argparse.ArgumentTypeError, match="cannot be written"):
        result_file(str(tmp_path))
    with pytest.raises(argparse.ArgumentTypeError, match=r"found\.json: "):
        result_file(str(path / "below.json"))
