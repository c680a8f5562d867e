"""`driqa serve` as a process: it starts, answers, stops in order, and says what is missing."""

import csv
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from driqa_jax.cli import main as cli


def test_a_missing_extra_is_named_with_the_install_command(root):
    code = (
        "import sys\n"
        "from driqa_jax.cli.main import main\n"
        "for name in sys.argv[1:]:\n"
        "    gone = ('driqa_jax.serving', name + '.')\n"
        "    for module in [module for module in sys.modules if module.startswith(gone)]:\n"
        "        del sys.modules[module]\n"
        "    sys.modules[name] = None\n"
        "    assert main(['serve', '--model', 'nonesuch']) == 2\n"
        "    del sys.modules[name]\n"
        "assert 'jax' not in sys.modules\n"
    )
    names = ["prometheus_client", "python_multipart", "uvicorn", "fastapi"]
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = "driqa serve: needs {}, which is not installed: pip install 'driqa_jax[serve]'"
    assert done.stderr.splitlines() == [said.format(name) for name in names]


@pytest.fixture
def serving():
    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(name, reason="needs the extra serve")


def test_an_unavailable_address_fails_before_loading(serving, capsys, monkeypatch):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["serve", "--port", str(taken.getsockname()[1])]) == 2
        assert "cannot listen" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["serve", "--port", "70000"])
    assert cli.main(["serve", "--host", "no.such.host.invalid"]) == 2


@pytest.mark.parametrize("host, warned", [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_a_public_address_prints_a_warning(serving, capsys, monkeypatch, host, warned):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: None)
    seen = []
    monkeypatch.setattr("driqa_jax.serving.server.serve", lambda *a: seen.append(a))
    words = ["serve", "--host", host, "--port", "0", "--max-queue", "3", "--timeout", "9", "--max-pixels", "2e6"]
    assert cli.main(words) == 0
    ((_, limits, _, meaning),) = seen
    assert meaning is None
    assert (limits.queue, limits.seconds, limits.pixels, limits.pictures) == (3, 9, 2e6, 32)
    assert ("warning" in capsys.readouterr().err) == warned


def test_bands_reach_the_server(serving, capsys, monkeypatch):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: None)
    seen = []
    monkeypatch.setattr("driqa_jax.serving.server.serve", lambda *a: seen.append(a))
    assert cli.main(["serve", "--port", "0", "--bands", "stars"]) == 0
    assert seen[0][3].bands.names == ("1", "2", "3", "4", "5")
    assert cli.main(["serve", "--port", "0", "--bands", "a=1"]) == 2


@pytest.mark.long
def test_the_bundled_model_starts_answers_and_stops(serving, root):
    command = [sys.executable, "-m", "driqa_jax", "serve", "--port", "0", "--timeout", "300"]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as process:
        watch = threading.Timer(500, process.kill)
        watch.start()
        where = re.match(r"(http://127\.0\.0\.1:\d+) will listen", process.stderr.readline())[1]
        assert f"ready: {where}\n" in process.stderr  # a slow machine's compiler complains before that
        assert b'"ok"' in urllib.request.urlopen(f"{where}/healthz", timeout=60).read()
        photo = (root / "examples" / "photos" / "dog.jpg").read_bytes()
        asked = urllib.request.Request(f"{where}/v1/score", photo, {"content-type": "image/jpeg"})
        with (root / "docs" / "results" / "examples.csv").open(newline="") as file:
            known = {row["path"]: row["score"] for row in csv.DictReader(file)}["examples/photos/dog.jpg"]
        answer = urllib.request.urlopen(asked, timeout=300).read()
        score = float(re.search(rb'"score":([0-9.]+)', answer)[1])
        assert score == pytest.approx(float(known), abs=0.02)  # tests are compiled another way
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(60) == 143 and time.monotonic() - began < 30
        watch.cancel()
        assert "Traceback" not in process.stderr.read()
