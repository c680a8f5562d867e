"""The culling study: bursts that do not give themselves away, and shares counted by hand."""

import csv
import pathlib

import numpy as np
import pytest
from PIL import Image
from test_near_duplicates import scene

from driqa_jax.errors import UserError
from experiments.cull import bursts
from experiments.cull.bursts import Shot
from experiments.cull.summary import summarize, to_table


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in").mkdir()
    for seed in range(4):
        scene(seed, 96).save(tmp_path / "in" / f"{seed}.png")
    scene(0, 96).save(tmp_path / "in" / "again.jpg")  # the same scene counts once
    return sorted(map(str, (tmp_path / "in").iterdir()))


def test_bursts_are_of_different_scenes_and_repeatable(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(bursts, "KINDS", {"noise": "white_noise", "underexposed": "darken"})
    shots = bursts.make(photos, tmp_path / "a", bursts=2, others=2, seed=3)
    again = bursts.make(photos[::-1], tmp_path / "b", bursts=2, others=2, seed=3)
    assert [(s.scene, s.kind, s.severity) for s in shots] == [(s.scene, s.kind, s.severity) for s in again]
    for shot, other in zip(shots, again, strict=True):
        assert pathlib.Path(shot.path).read_bytes() == pathlib.Path(other.path).read_bytes()
    by_scene = {n: sorted((s.kind, s.severity) for s in shots if s.scene == n) for n in (-1, 0, 1)}
    assert by_scene[-1] == [("untouched", 0.0)] * 2
    assert [kind for kind, _ in by_scene[0]] == ["noise", "underexposed", "untouched"]
    assert by_scene[1] == [("noise", severity) for severity in bursts.GRADED]
    assert {np.asarray(Image.open(shot.path)).shape for shot in shots} == {(64, 64, 3)}
    assert bursts.make([], tmp_path / "a", bursts=2, others=2, seed=3) == shots  # as it is on disk
    assert len(list(csv.reader(open(tmp_path / "a" / "truth.csv")))) == 9  # noqa: SIM115
    with pytest.raises(UserError, match="5 different photos are needed, but there are 4"):
        bursts.make(photos, tmp_path / "c", bursts=2, others=3, seed=0)


def row(group, rank, score, choice=""):
    return {"group": group, "rank": rank, "score": str(score), "choice": choice}


def test_shares_count_groups_ranks_and_kinds():
    shots = [
        *(Shot("a", 0, "untouched", 0.0), Shot("b", 0, "shake", 0.3), Shot("c", 0, "JPEG", 0.3)),
        *(Shot("d", 1, "JPEG", 0.45), Shot("e", 1, "JPEG", 0.15), Shot("f", 1, "JPEG", 0.75)),
        *(Shot("g", -1, "untouched", 0.0), Shot("h", -1, "untouched", 0.0)),
    ]
    rows = {
        **{"a": row("1", "1", 70), "b": row("1", "3", 50), "c": row("1", "2", 71)},
        **{"d": row("2", "1", 60), "e": row("2", "2", 61, "reject"), "f": row("", "1", 10)},
        **{"g": row("", "1", 50), "h": row("2", "3", 50)},
    }
    shares = {name: (share["value"], share["n"]) for name, share in summarize(shots, rows).items()}
    assert list(shares.values())[:7] == [(0.5, 2), (0.5, 2), (0.5, 2), (1.0, 1), (0.0, 1), (0.5, 2), (0.5, 2)]
    assert shares["degraded shot below the least degraded: shake"] == (1.0, 1)
    assert shares["degraded shot below the least degraded: JPEG"] == (round(2 / 3, 4), 3)
    table = to_table(summarize(shots, rows)).splitlines()
    assert (
        table[0] == "| | share | n |" and table[-1] == "| degraded shot below the least degraded: shake | 1.000 | 1 |"
    )
