"""One item's trouble stays that item's, in a stream, a folder, a pipe; output works whatever the encoding."""

import io
import os
import re
import socket
import subprocess
import sys
import threading

import pytest
from fake_model import fake_scorer, picture
from PIL import Image

from driqa_jax.cli import main as cli
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.errors import UnreadableImage, UserError, reason
from driqa_jax.inference.stream import PAUSE
from driqa_jax.reports.inputs import list_pictures, read_list


class Panic(BaseException):
    pass


class Lost:
    def __init__(self, error):
        self._error = error

    def read(self, *unused):
        raise self._error


@pytest.fixture(scope="module")
def scorer():
    return fake_scorer()


@pytest.fixture
def photos(tmp_path, monkeypatch, scorer):
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: scorer)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(("a.png", "m.png", "z.png")):
        Image.fromarray(picture(40, 50, i)).save(folder / name)
    return folder


ERRORS = [
    (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    (ConnectionResetError(), "Connection reset error"),
    (KeyError("x"), "KeyError: 'x'"),
    (RecursionError("too\ndeep"), "too deep"),
    (StopIteration(), "Stop iteration"),
    (Panic("boom"), "Panic: boom"),
]


@pytest.mark.parametrize("error, said", ERRORS, ids=lambda value: type(value).__name__)
def test_any_exception_becomes_the_row_of_its_item(scorer, error, said):
    image = picture(40, 50, 1)
    first, lost, last = scorer.stream([image, Lost(error), image])
    assert first.score == last.score is not None
    assert lost.score is None and said in lost.error and not lost.internal


def test_a_failing_batch_fails_only_its_images(monkeypatch):
    scorer, calls = fake_scorer(batch_size=2), []
    run = scorer.executor.predictions

    def failing(batch):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("RESOURCE_EXHAUSTED")
        return run(batch)

    monkeypatch.setattr(scorer.executor, "predictions", failing)
    monkeypatch.setattr(scorer.executor, "parallel", 1)
    results = list(scorer.stream([picture(40, 50, 1)] * 6))
    assert [result.score is None for result in results] == [False, False, True, True, False, False]
    assert results[2].internal and results[2].error == "the model failed: RESOURCE_EXHAUSTED"


def test_images_before_a_failing_iterator_are_scored(scorer):
    def images():
        yield picture(40, 50, 1)
        yield picture(40, 50, 2)
        raise OSError("the list ended badly")

    found = []
    with pytest.raises(OSError, match="ended badly"):
        for result in scorer.stream(images()):
            found.append(result.score)
    assert len(found) == 2 and None not in found


def test_a_source_names_its_unreadable_image():
    class Broken(FakeSource):
        def encoded(self, i):
            if i == 1:
                raise PermissionError(13, "Permission denied")
            return super().encoded(i)

    pictures = list(Broken(3, size=16).images())
    assert isinstance(pictures[0], bytes) and isinstance(pictures[2], bytes)
    assert isinstance(pictures[1], UnreadableImage) and pictures[1].reason == "Permission denied"
    assert pictures[1].path.startswith("fake: ") and reason(pictures[1]) == "Permission denied"


def test_a_folder_skips_irregular_files_and_reports_them_once(photos, tmp_path, monkeypatch, capsys):
    os.mkfifo(photos / "b.jpg")
    (photos / "dir.jpg").mkdir()
    (photos / "link.jpg").symlink_to(photos / "dir.jpg")
    (photos / "gone.jpg").symlink_to(photos / "nowhere")
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(photos)  # a socket's path must be short
        bound.bind("s.jpg")
    for argument, names in ((str(photos), "a.png gone.jpg m.png z.png"), (f"{photos}/*.jpg", "gone.jpg")):
        found = list(list_pictures([argument]))
        assert [os.path.basename(path) for path in found] == names.split()
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1 and re.search(r"/b\.jpg and \d more, not a regular file", said[0])
    assert list(list_pictures([str(photos / "b.jpg")])) == [str(photos / "b.jpg")] and not capsys.readouterr().err
    only = tmp_path / "only"
    only.mkdir()
    os.mkfifo(only / "p.jpg")
    with pytest.raises(UserError, match="no picture .*p.jpg, not a regular file"):
        list_pictures([str(only)])


def test_a_pipe_named_on_the_command_line_is_read(photos, tmp_path, capsys):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes((photos / "a.png").read_bytes()), daemon=True).start()
    assert cli.main(["score", str(pipe), str(photos / "a.png")]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len({row.partition(",")[2] for row in rows}) == 1


def names(data, nul):
    return [item for item in read_list(io.BytesIO(data), nul) if item is not PAUSE]


def test_names_split_by_nul():
    assert [item.path for item in names(b"a\n b\0{c\0\0d", True)] == ["a\n b", "{c", "d"]
    assert [item.source for item in names(b"{c\0", True)] == ["{c"]
    long = b"\0".join(b"x" * 50 + str(i).encode() for i in range(5000))
    assert len(names(long, True)) == 5000
    with pytest.raises(UserError, match="NUL .*-0 "):
        names(b"a.jpg\0b.jpg\0", False)
    good, bad = names(b"a.jpg\nb\0c.jpg\n", False)
    assert good.source == "a.jpg" and bad.path == "b\\0c.jpg" and "-0" in bad.source.reason


def test_the_option_for_nul_stands_with_standard_input_alone(photos, capsys):
    assert cli.main(["score", "-0", str(photos)]) == 2
    assert "driqa score -0 -" in capsys.readouterr().err


SCRIPT = """
import os, sys
sys.path.insert(0, 'tests')
import driqa_jax.inference.scorer as scoring
from fake_model import fake_scorer
scoring.load = lambda *a, **k: fake_scorer()
from driqa_jax.cli.main import entry
if 'closed' in sys.argv[1]:
    os.close(1); sys.stdout = None
sys.argv = ['driqa', 'score', *sys.argv[2:]]
entry()
"""


def score(root, how, *words, encoding="utf-8", stdout=subprocess.PIPE):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, how, *map(str, words)],
        cwd=root,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )


@pytest.mark.parametrize("encoding, written", [("cp1252", b"\\u65e5 \xfc"), ("ascii", b"\\u65e5 \\xfc")])
def test_every_row_is_written_whatever_the_encoding(root, photos, encoding, written):
    (photos / "m.png").rename(photos / "m 日 ü.png")
    os.rename(photos / "z.png", os.fsencode(photos) + b"/z\xe9.png")
    done = score(root, "", photos, encoding=encoding)
    rows = done.stdout.splitlines()
    assert done.returncode == 0 and len(rows) == 4, done.stderr
    assert b"m " + written + b".png," in rows[2] and b"z\xe9.png," in rows[3]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_or_closed_output_is_one_line(root, photos):
    with open("/dev/full", "wb") as full:
        done = score(root, "", photos, stdout=full)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and "Traceback" not in done.stderr.decode()
    assert lines[-1] == "driqa score: standard output cannot be written: No space left on device"
    done = score(root, "closed", photos)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and lines[-1] == "driqa score: standard output cannot be written: it is closed"
    done = score(root, "closed", photos, "-o", photos / "scores.csv")
    assert done.returncode == 0 and len((photos / "scores.csv").read_text().splitlines()) == 4


def test_a_failing_explanation_does_not_stop_the_others(photos, tmp_path, capsys, monkeypatch, scorer):
    from driqa_jax.reports import gallery

    class Explained:
        name, score = "a", 50.0

        def faults(self, threshold):
            return ()

    def explain(self, path):
        if path.endswith("m.png"):
            raise ZeroDivisionError("in a decoder")
        return Explained()

    monkeypatch.setattr(type(scorer), "explain", explain)
    monkeypatch.setattr(gallery.Gallery, "add", lambda self, found: None)
    assert cli.main(["explain", str(photos), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and "m.png: ZeroDivisionError: in a decoder" in said.err
    assert "ZeroDivisionError" in (tmp_path / "out" / "explanations.jsonl").read_text()
