"""What a culling made of a folder of bursts: shares with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from driqa_jax.evaluation.bootstrap import estimate
from experiments.cull.bursts import UNTOUCHED, Shot

Rows = Mapping[str, Mapping[str, str]]  # rows of choices.csv by path


def summarize(shots: Sequence[Shot], rows: Rows) -> dict[str, dict[str, Any]]:
    """Shares by name: `value`, `interval` (95 %, of resampled bursts; None if there are too few) and `n`."""
    scenes: dict[int, list[Shot]] = {}
    for shot in shots:
        scenes.setdefault(shot.scene, []).append(shot)
    alone = scenes.pop(-1, [])
    sizes: dict[str, int] = {}
    for row in rows.values():
        sizes[row["group"]] = sizes.get(row["group"], 0) + 1
    whole, best, untouched, graded, highest, rejected = [], [], [], [], [], []
    kinds: dict[str, list[bool]] = {}
    for scene in scenes.values():
        scene = sorted(scene, key=lambda shot: shot.severity)
        least, *worse = [rows[shot.path] for shot in scene]
        grouped = bool(least["group"]) and all(row["group"] == least["group"] for row in worse)
        first = bool(least["group"]) and least["rank"] == "1"
        whole.append(grouped and sizes[least["group"]] == len(scene))
        best.append(first)
        (untouched if scene[0].kind == UNTOUCHED else graded).append(first)
        highest.append(float(least["score"]) > max(float(row["score"]) for row in worse))
        rejected.append(least["choice"] == "reject")
        for shot, row in zip(scene[1:], worse, strict=True):
            kinds.setdefault(shot.kind, []).append(_below(row, least))
    return {
        "burst found as one group without other photos": _share(whole),
        "unrelated photo left alone": _share([not rows[shot.path]["group"] for shot in alone]),
        "best shot is the least degraded": _share(best),
        "... beside two kinds of degradation": _share(untouched),
        "... of three severities of one kind": _share(graded),
        "highest score is the least degraded": _share(highest),
        "least degraded shot proposed as a reject": _share(rejected),
        **{f"degraded shot below the least degraded: {kind}": _share(kinds[kind]) for kind in sorted(kinds)},
    }


def to_table(shares: Mapping[str, Mapping[str, Any]]) -> str:
    """The shares as a Markdown table."""
    lines = ["| | share | n |", "|---|---|---|"]
    for name, share in shares.items():
        value = "-" if share["value"] is None else f"{share['value']:.3f}"
        interval = "" if share["interval"] is None else " [{:.3f}, {:.3f}]".format(*share["interval"])
        lines.append(f"| {name} | {value}{interval} | {share['n']} |")
    return "\n".join(lines)


def _below(row: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether a shot ranks below another of its group; by the score if their groups differ."""
    if row["group"] and row["group"] == other["group"]:
        return int(row["rank"]) > int(other["rank"])
    return float(row["score"]) < float(other["score"])


def _share(values: Sequence[bool]) -> dict[str, Any]:
    found = estimate(np.array(values, np.float64))
    interval = None if found.interval is None else [round(end, 4) for end in found.interval]
    return {
        "value": None if found.value is None else round(found.value, 4),
        "interval": interval,
        "n": len(values),
    }
