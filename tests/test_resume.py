"""A run that was stopped, or killed, goes on: no picture twice, none lost, the bytes of a run that never stopped."""

import io
import json

import pytest
from fake_model import fake_scorer, picture
from PIL import Image
from test_cli import driqa

from driqa_jax.errors import UserError
from driqa_jax.inference.scorer import Result
from driqa_jax.inference.stream import PAUSE
from driqa_jax.reports.inputs import Listed
from driqa_jax.reports.score_file import ScoreFile, csv_rows, jsonl_rows

MADE_BY = {"sha256": "ab", "effort": "default", "view": {"tiles": 4}, "calibration": {}, "jax": "1"}
ROWS = [
    Result("a.jpg", 71.5, uncertainty=1.25),
    Result('odd, "name"\nof two lines.jpg', 0.0, uncertainty=0.0),
    Result("broken.png", None, "truncated"),
    Result("é.jpg", 100.0),
]
PICTURES = [Listed(row.path, row.path) for row in ROWS]


def write(path, rows=ROWS, resume=False, made_by=MADE_BY, pictures=PICTURES):
    """What `driqa score` does, without a scorer; returns the paths that were left to score."""
    with ScoreFile(path, made_by, resume) as file:
        rest = [picture.path for picture in file.rest(iter(pictures)) if picture is not PAUSE]
        for row in rows:
            if row.path in rest:
                file.write(row)
    return rest


def kill(path, data):
    """What a process that was killed leaves: a part that ends anywhere, and what made it."""
    path.with_name(f".{path.name}.part").write_bytes(data)
    path.with_name(f".{path.name}.part.meta.json").write_text(json.dumps(MADE_BY))


@pytest.mark.parametrize("name, reader", [("s.csv", csv_rows), ("s.jsonl", jsonl_rows)])
def test_a_file_cut_at_any_byte_keeps_its_complete_rows(tmp_path, name, reader):
    write(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    whole = list(reader(io.BytesIO(data)))
    assert [row.path for row in whole] == [row.path for row in ROWS]
    assert [row.score for row in whole] == [71.5, 0.0, None, 100.0]
    assert [row.error for row in whole] == [None, None, "truncated", None]
    assert whole[-1].end == len(data)
    for cut in range(len(data)):
        assert list(reader(io.BytesIO(data[:cut]))) == [row for row in whole if row.end <= cut]
    # A power cut can leave a hole where the last blocks should be.
    hole = data[: whole[1].end] + b"\0" * 40 + b"\n" + data[whole[1].end :]
    assert list(reader(io.BytesIO(hole))) == whole[:2]


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl"])
def test_a_killed_run_resumes_to_identical_bytes(tmp_path, name):
    write(tmp_path / name)
    expected = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    data = expected[name]
    for cut in (0, 3, len(data) // 3, len(data) // 2, len(data) - 1, len(data)):
        for file in tmp_path.iterdir():
            file.unlink()
        kill(tmp_path / name, data[:cut])
        write(tmp_path / name, resume=True)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == expected


def test_finished_rows_are_not_scored_again(tmp_path):
    path = tmp_path / "s.csv"
    with pytest.raises(KeyboardInterrupt), ScoreFile(path, MADE_BY) as file:
        file.write(ROWS[0])
        file.write(ROWS[1])
        raise KeyboardInterrupt
    assert write(path, resume=True) == ["broken.png", "é.jpg"]
    meta = json.loads((tmp_path / "s.meta.json").read_text())
    assert (meta["rows"], meta["failed"], meta["complete"]) == (4, 1, True)
    assert write(path, resume=True) == []  # complete already
    more = [*PICTURES, PAUSE, Listed("z.jpg", "z.jpg")]
    assert write(path, [*ROWS, Result("z.jpg", 5.0)], resume=True, pictures=more) == ["z.jpg"]
    assert write(path) == [row.path for row in ROWS]  # without --resume all is done anew


def test_rows_of_another_model_are_refused_and_kept(tmp_path):
    path = tmp_path / "s.csv"
    write(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for key in ("sha256", "effort", "view", "calibration"):
        with pytest.raises(UserError, match=rf"s\.csv: .*{key}"):
            write(path, resume=True, made_by={**MADE_BY, key: "other"})
    for other in (PICTURES[1:], PICTURES[:2], [PICTURES[0], PICTURES[2]]):
        with pytest.raises(UserError, match="the input has"):
            write(path, resume=True, pictures=other)
    write(path, resume=True, made_by={**MADE_BY, "jax": "2"})
    assert path.read_bytes() == before["s.csv"]
    (tmp_path / "s.meta.json").unlink()
    with pytest.raises(UserError, match="without --resume"):
        write(path, resume=True)


def test_two_runs_cannot_write_one_file(tmp_path):
    with ScoreFile(tmp_path / "s.csv", MADE_BY) as file:
        file.write(ROWS[0])
        with pytest.raises(UserError, match="another run"), ScoreFile(tmp_path / "s.csv", MADE_BY):
            pass
        file.write(ROWS[1])
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 4


def test_the_command_goes_on_after_ctrl_c(tmp_path, monkeypatch, capsys):
    inner, seen = fake_scorer(), []
    for i in range(5):
        Image.fromarray(picture(40, 50, i)).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"")

    class Spied:
        stop_at = None

        def __getattr__(self, name):
            return getattr(inner, name)

        def stream(self, images):
            for done, result in enumerate(inner.stream(seen.append(image) or image for image in images)):
                if done == self.stop_at:
                    raise KeyboardInterrupt
                yield result

    spied = Spied()
    monkeypatch.setattr("driqa_jax.inference.scorer.load", lambda *a, **k: spied)
    folder, output = str(tmp_path), str(tmp_path / "s.csv")
    assert driqa("score", folder, "-o", str(tmp_path / "whole.csv"), capsys=capsys)[0] == 1
    spied.stop_at, seen[:] = 2, []
    assert driqa("score", folder, "-o", output, capsys=capsys)[0] == 130
    spied.stop_at, seen[:] = None, []
    code, _, err = driqa("score", folder, "-o", output, "--resume", capsys=capsys)
    assert code == 1 and "2 rows kept" in err and "4 scored, 1 failed" in err
    assert seen == [f"{folder}/{i}.png" for i in (2, 3, 4)]
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    code, _, err = driqa("score", folder, "--resume", capsys=capsys)
    assert code == 2 and "-o" in err
