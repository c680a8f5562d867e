"""Shared contents are found between sets and within one, counted, listed and shown."""

import csv
import io

import numpy as np
import pytest
from PIL import Image
from test_near_duplicates import encoded, scene

from driqa_jax.cli import main as cli
from driqa_jax.data import leaks, near_duplicates
from driqa_jax.data.source import Source
from driqa_jax.errors import DataError


class Pictures(Source):
    """Encoded pictures, each its own group."""

    def __init__(self, name, pictures, splits=None, mos=None):
        self._pictures = pictures
        ids = [f"{name}{k}.jpg" for k in range(len(pictures))]
        super().__init__(
            name,
            [0.5] * len(ids) if mos is None else mos,
            image_id=ids,
            group=ids,
            subset=["odd" if k % 2 else "even" for k in range(len(ids))],
            split=splits or ["train"] * len(ids),
            dataset=[name] * len(ids),
        )

    def encoded(self, i):
        return self._pictures[i]


def mirrored(seed):
    return scene(seed, 96).transpose(Image.Transpose.FLIP_LEFT_RIGHT)


SCENES = [encoded(scene(seed, 96)) for seed in range(6)]


def test_pairs_are_those_of_the_full_matrix_over_block_bounds(monkeypatch):
    rows = np.stack(
        [near_duplicates.describe(data) for data in [*SCENES, encoded(mirrored(1)), encoded(scene(2, 96), quality=30)]]
    )
    full = np.maximum(rows[:6] @ rows.T, rows[:6] @ near_duplicates._mirrored(rows).T)
    monkeypatch.setattr(near_duplicates, "_ROWS", 4)
    i, j, similarity = near_duplicates.pairs(rows[:6], rows)
    assert {(a, b) for a, b in zip(i, j, strict=True)} == {*((k, k) for k in range(6)), (1, 6), (2, 7)}
    np.testing.assert_allclose(similarity, full[i, j], atol=1e-6)
    assert (np.diff(similarity) <= 0).all()
    assert all(len(column) == 0 for column in near_duplicates.pairs(rows[:2], rows[3:5]))


def test_two_sets_that_share_scenes():
    left = Pictures("a", SCENES[:4], mos=[0.1, 0.2, 0.3, 0.4])
    right = Pictures(
        "b", [encoded(scene(9, 96)), encoded(scene(2, 96), quality=60), encoded(mirrored(0))], mos=[0, 0.5, 0.2]
    )
    found = leaks.leaks_between(left, right)
    assert {(a, b) for a, b in zip(found.i.tolist(), found.j.tolist(), strict=True)} == {(0, 2), (2, 1)}
    assert (found.similarity > leaks.REPEAT).all()
    assert found.shared() == (4, 2, 2) and found.shared("even") == (2, 2, 2) and found.shared("odd") == (2, 0, 0)
    assert found.mos_gap() == pytest.approx((0.1 + 0.2) / 2)
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert {(row["left_image"], row["right_image"], row["repeat"]) for row in rows} == {
        ("a0.jpg", "b2.jpg", "1"),
        ("a2.jpg", "b1.jpg", "1"),
    }
    assert rows[0]["left_split"] == "train" and float(rows[0]["left_mos"]) in (0.1, 0.3)


def test_one_set_between_its_splits():
    source = Pictures("s", [*SCENES[:3], SCENES[1], SCENES[4]], splits=["train"] * 3 + ["test"] * 2)
    [found] = leaks.leaks_within(source)
    assert (found.left.name, found.right.name) == ("s:test", "s:train")
    assert found.left.column("image_id")[found.i].tolist() == ["s3.jpg"]
    assert found.right.column("image_id")[found.j].tolist() == ["s1.jpg"]
    with pytest.raises(DataError, match="has only the split 'train'"):
        leaks.leaks_within(Pictures("s", SCENES))
    broken = Pictures("s", [SCENES[0], b"no more"], splits=["train", "test"])
    with pytest.raises(DataError, match=r"s: s1\.jpg: cannot be read"):
        leaks.leaks_within(broken)


def test_the_contact_sheet_shows_each_scene_once_and_is_the_same_each_time():
    left = Pictures("a", SCENES)
    found = leaks.leaks_between(left, Pictures("b", [*SCENES, SCENES[0]]))
    assert len(found.i) == 7
    sheet = leaks.contact_sheet(found, columns=2)
    pair = 2 * 180 + 3 * 8
    assert sheet.width == 2 * pair and sheet.height == 3 * (180 + 3 * 12 + 3 * 8)
    assert sheet.tobytes() == leaks.contact_sheet(found, columns=2).tobytes()
    assert leaks.contact_sheet(found, most=2, columns=2).height == sheet.height // 3
    # The first pair's pictures stand side by side.
    one, two = (np.asarray(sheet.crop((x, 8, x + 180, 188)), float) for x in (8, 8 + 188))
    assert np.abs(one - two).mean() < 3 < np.abs(one - np.roll(one, 60, 0)).mean()


def test_the_command_counts_and_writes(tmp_path, capsys):
    for folder, seeds in (("a", (0, 1)), ("b", (1, 5))):
        (tmp_path / folder).mkdir()
        for seed in seeds:
            (tmp_path / folder / f"{folder}{seed}.jpg").write_bytes(SCENES[seed])
    out = tmp_path / "out"
    words = ["data", "leaks", str(tmp_path / "a"), str(tmp_path / "b")]
    assert cli.main([*words, "-o", str(out)]) == 1
    said = capsys.readouterr().out
    assert "a in b" in said and "repeat: of at least 0.99" in said and "a-b.csv" in said
    assert {file.name for file in out.iterdir()} == {"a-b.csv", "a-b.jpg"}
    with Image.open(out / "a-b.jpg") as sheet:
        assert sheet.width == 3 * (2 * 180 + 3 * 8)
    (tmp_path / "a" / "a1.jpg").unlink()
    assert cli.main(words) == 0
    assert cli.main(["data", "leaks", str(tmp_path / "a")]) == 2
    assert "has only the split 'train'" in capsys.readouterr().err
