"""`driqa score -`: a list through a pipe, each row as soon as its picture is scored."""

import io
import json
import os
import subprocess
import sys
import threading
import types

import pytest
from fake_model import fake_scorer, picture
from PIL import Image

from driqa_jax.cli import main as cli
from driqa_jax.errors import UnreadableImage
from driqa_jax.inference.stream import PAUSE
from driqa_jax.reports.inputs import read_list


class Pipe:
    """A running `driqa score -`: lines go in, lines come out."""

    def __init__(self, monkeypatch, *words):
        reading, writing = os.pipe()
        out_reading, out_writing = os.pipe()
        self._in, self._out = os.fdopen(writing, "wb"), os.fdopen(out_reading, "rb")
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=os.fdopen(reading, "rb", buffering=0)))
        monkeypatch.setattr(sys, "stdout", os.fdopen(out_writing, "w", encoding="utf-8"))
        self._thread = threading.Thread(target=self._run, args=(words,), daemon=True)
        self._thread.start()

    def _run(self, words):
        self.code = cli.main(["score", "-", *words])
        sys.stdout.close()

    def send(self, line):
        self._in.write(line + b"\n")
        self._in.flush()

    def line(self):
        return self._out.readline().decode("utf-8", "surrogateescape").rstrip("\n")

    def end(self):
        self._in.close()
        rest = self._out.read().decode()
        self._thread.join(60)
        return self.code, rest.splitlines()


@pytest.fixture(scope="module")
def scorer():
    return fake_scorer(batch_size=4)


@pytest.fixture
def photos(tmp_path, monkeypatch, scorer):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: scorer)
    for i, name in enumerate((b"a.png", b"b c.png", b"latin\xe9.png")):
        Image.fromarray(picture(40, 50, i)).save(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    return tmp_path


def test_a_slow_producer_sees_each_row_before_it_sends_the_next(photos, monkeypatch, scorer):
    pipe = Pipe(monkeypatch)
    expected = {}
    for name in ("a.png", "b c.png", os.fsdecode(b"latin\xe9.png"), "a.png"):
        pipe.send(os.fsencode(photos / name))
        if not expected:
            assert pipe.line() == "path,score,uncertainty,error"
        path, score, uncertainty, error = pipe.line().split(",")
        assert path == str(photos / name) and error == "" and float(uncertainty) >= 0
        assert float(score) == expected.setdefault(name, scorer(photos / name))
    assert pipe.end() == (0, [])


def test_json_lines_keep_their_other_keys(photos, monkeypatch, scorer):
    pipe = Pipe(monkeypatch)
    pipe.send(json.dumps({"id": 7, "path": str(photos / "a.png"), "score": "old"}).encode())
    row = json.loads(pipe.line())
    assert row == {
        "path": str(photos / "a.png"),
        "score": scorer(photos / "a.png"),
        "uncertainty": row["uncertainty"],
        "error": None,
        "id": 7,
    }
    for line in (b'{"path": ', b'{"id": 1}', b'{"path": 3}', b"absent.png", b""):
        pipe.send(line)
    code, rest = pipe.end()
    rows = [json.loads(line) for line in rest]
    assert code == 1 and [row["score"] for row in rows] == [None] * 4
    assert [row["path"] for row in rows] == ['{"path": ', '{"id": 1}', '{"path": 3}', "absent.png"]
    assert "JSON" in rows[0]["error"] and "path" in rows[1]["error"] and "No such file" in rows[3]["error"]


def test_many_lines_at_once_come_back_in_order(photos, monkeypatch):
    names = [photos / "a.png", photos / "b c.png", photos / "absent.png"] * 7
    pipe = Pipe(monkeypatch)
    pipe.send(b"\n".join(os.fsencode(name) for name in names))
    code, rest = pipe.end()
    assert code == 1 and [line.split(",")[0] for line in rest[1:]] == [str(name) for name in names]


def test_a_list_pauses_only_without_input():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as file:
        items = read_list(file)
        assert next(items) is PAUSE
        os.write(writing, b"a\nb\n")
        found = [next(items).path]
        while len(found) < 2:
            if (item := next(items)) is not PAUSE:
                found.append(item.path)
        os.close(writing)
        assert found == ["a", "b"] and all(item is PAUSE for item in items)


def test_json_that_is_nested_too_deeply_is_an_error_of_its_line():
    first, second = [item for item in read_list(io.BytesIO(b'{"a":' + b"[" * 200_000 + b"\nb\n")) if item is not PAUSE]
    assert isinstance(first.source, UnreadableImage) and second.path == "b"


@pytest.mark.parametrize("words, said", [(["-", "x.png"], "only path"), (["-"], "no path")])
def test_invalid_standard_input_is_a_usage_error(photos, monkeypatch, capsys, words, said):
    empty = open(os.devnull, "rb")  # noqa: SIM115
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=empty))
    assert cli.main(["score", *words]) == 2
    assert said in capsys.readouterr().err
    empty.close()


def test_a_closed_standard_input_is_a_usage_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["score", "-"]) == 2
    assert capsys.readouterr().err == "driqa score: standard input is closed\n"


def test_a_refused_pipe_that_stays_open_ends_with_one_line():
    """The reader is then blocked in a read, which the end of the interpreter must not wait for."""
    command = [sys.executable, "-m", "driqa_jax", "score", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b"a.png\0b.png\n")
        process.stdin.flush()
        assert process.wait(timeout=120) == 2
        assert process.stderr.read().count(b"\n") == 1 and process.stdout.read() == b""
