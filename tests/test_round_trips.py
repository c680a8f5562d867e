"""Property tests: what score files and split files hold comes back as it was, whatever the names."""

import csv
import os
import types

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driqa_jax.data.split_file import Split, hash_split, listed_split
from driqa_jax.data.synthetic import FakeSource
from driqa_jax.reports.inputs import Listed
from driqa_jax.reports.score_file import ScoreFile

# File names as POSIX has them: any bytes but NUL, decoded as Python does (bytes that are no text become surrogates).
NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name).map(os.fsdecode)
SCORES = st.floats(0, 100).map(lambda value: round(value, 2))
ERRORS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
ROWS = st.lists(st.tuples(NAMES, st.one_of(SCORES, ERRORS)), max_size=6)
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def row(name, outcome):
    failed = isinstance(outcome, str)
    return types.SimpleNamespace(
        path=name, score=None if failed else outcome, uncertainty=None, error=outcome if failed else None
    )


@QUICK
@given(ROWS, st.integers(0, 6), st.sampled_from([".csv", ".jsonl"]), st.binary(max_size=12))
def test_a_score_file_goes_on_after_any_row_and_any_torn_end(tmp_path, rows, kept, suffix, torn):
    path, whole = tmp_path / f"s{suffix}", tmp_path / f"whole{suffix}"
    for old in tmp_path.glob("*s*"):
        old.unlink()
    for file, part in ((path, rows[:kept]), (whole, rows)):
        with ScoreFile(file, {"sha256": "x"}) as sink:
            for name, outcome in part:
                sink.write(row(name, outcome))
    with open(path, "ab") as file:
        file.write(torn.replace(b"\n", b""))  # a process killed in the middle of a line
    with ScoreFile(path, {"sha256": "x"}, resume=True) as sink:
        pictures = iter([Listed(name, name) for name, _ in rows])
        written = [(each.path, each.error if each.score is None else each.score) for each in sink.kept_rows()]
        assert written == rows[:kept] and sink.failed == sum(isinstance(x, str) for _, x in rows[:kept])
        for picture, (name, outcome) in zip(sink.rest(pictures), rows[kept:], strict=True):
            assert picture.path == name
            sink.write(row(name, outcome))
    assert path.read_bytes() == whole.read_bytes()
    if suffix == ".csv":
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            assert [each["path"] for each in csv.DictReader(file)] == [name for name, _ in rows]


@QUICK
@given(st.integers(2, 40), st.integers(0, 5), st.floats(0.1, 0.5), st.floats(0, 0.3))
def test_a_split_by_hash_comes_back_and_parts_no_group(tmp_path, count, number, test, val):
    source = FakeSource(count, size=8)
    split = hash_split(source, number, test, val)
    split.save(tmp_path / "s.json")
    again = Split.load(tmp_path / "s.json")
    assert again == split
    parts, groups = again.assigned(source).column("split"), source.column("group")
    assert all(len(set(parts[groups == group])) == 1 for group in groups)
    assert sum(split.counts.values()) == count


@QUICK
@given(st.data())
def test_a_listed_split_comes_back_picture_by_picture(tmp_path, data):
    source = FakeSource(12, size=8)
    groups, where = np.unique(source.column("group"), return_inverse=True)
    drawn = data.draw(
        st.lists(st.sampled_from(["train", "val", "test", ""]), min_size=len(groups), max_size=len(groups))
    )
    parts = np.array(drawn)[where]
    split = listed_split(source, "mine", {"kind": "published"}, parts)
    split.save(tmp_path / "s.json")
    assert Split.load(tmp_path / "s.json").assigned(source).column("split").tolist() == parts.tolist()
