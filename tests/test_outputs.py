"""Files of scores: whole or growing beside their place, the same bytes each time, with their provenance."""

import csv
import json
import os

import pytest

from driqa_jax.errors import UserError
from driqa_jax.inference.scorer import Result
from driqa_jax.reports.score_file import ScoreFile, check_output, meta_path

ROWS = [
    Result("a.jpg", 71.5, uncertainty=1.25),
    Result('odd, "name"\n.jpg', 0.0, uncertainty=0.0),
    Result("broken.png", None, "truncated"),
    Result(os.fsdecode(b"latin\xe9.jpg"), 100.0),
]


def write(path, rows=ROWS, error=None):
    with ScoreFile(path, {"model": "lite"}) as file:
        for row in rows:
            file.write(row)
        if error is not None:
            raise error


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_csv_rows_come_back_as_they_were(tmp_path):
    write(tmp_path / "s.csv")
    with open(tmp_path / "s.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "score", "uncertainty", "error"]
    assert [tuple(row.values()) for row in rows] == [
        ("a.jpg", "71.50", "1.25", ""),
        ('odd, "name"\n.jpg', "0.00", "0.00", ""),
        ("broken.png", "", "", "truncated"),
        (os.fsdecode(b"latin\xe9.jpg"), "100.00", "", ""),
    ]
    assert b"latin\xe9.jpg" in (tmp_path / "s.csv").read_bytes()


def test_jsonl_rows_come_back_as_they_were(tmp_path):
    write(tmp_path / "s.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert rows[2] == {"path": "broken.png", "score": None, "uncertainty": None, "error": "truncated"}
    assert [row["path"] for row in rows] == [row.path for row in ROWS]
    assert [row["score"] for row in rows] == [71.5, 0.0, None, 100.0]


def test_meta_stands_beside_and_bytes_repeat(tmp_path):
    write(tmp_path / "s.csv")
    assert names(tmp_path) == ["s.csv", "s.meta.json"]
    meta = json.loads(meta_path(tmp_path / "s.csv").read_text())
    assert meta == {"file": "s.csv", "rows": 4, "failed": 1, "complete": True, "model": "lite"}
    first = (tmp_path / "s.csv").read_bytes(), (tmp_path / "s.meta.json").read_bytes()
    write(tmp_path / "s.csv")
    assert ((tmp_path / "s.csv").read_bytes(), (tmp_path / "s.meta.json").read_bytes()) == first


def test_rows_are_flushed_beside_the_place_before_the_end(tmp_path):
    with ScoreFile(tmp_path / "s.csv", {}) as file:
        file.write(ROWS[0])
        assert not (tmp_path / "s.csv").exists() and "a.jpg,71.50" in (tmp_path / ".s.csv.part").read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupt_keeps_the_rows_so_far(tmp_path, error):
    with pytest.raises(type(error)):
        write(tmp_path / "s.csv", ROWS[:1], error)
    assert (tmp_path / "s.csv").read_text() == "path,score,uncertainty,error\na.jpg,71.50,1.25,\n"
    assert json.loads((tmp_path / "s.meta.json").read_text())["complete"] is False
    assert names(tmp_path) == ["s.csv", "s.meta.json"]


def test_an_error_leaves_what_stood_there(tmp_path):
    (tmp_path / "s.csv").write_text("before")
    with pytest.raises(RuntimeError):
        write(tmp_path / "s.csv", ROWS[:1], RuntimeError("out of luck"))
    assert (tmp_path / "s.csv").read_text() == "before"


def test_places_that_cannot_be_written_are_refused_at_once(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for path, reason in (
        (tmp_path / "s.txt", r"\.csv, \.jsonl"),
        (tmp_path / "no" / "s.csv", "does not exist; create it first"),
        (tmp_path / "folder.csv", "is a folder"),
    ):
        with pytest.raises(UserError, match=reason):
            check_output(path)
