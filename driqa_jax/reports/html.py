"""One page about many scores: how they lie, the worst and the best pictures, what failed."""

from __future__ import annotations

import heapq
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from driqa_jax.errors import reason
from driqa_jax.inference.labels import STANDS_OUT
from driqa_jax.io import require_writable, write_bytes
from driqa_jax.reports.page import name_values, page, photo_values, printable

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Scorer
    from driqa_jax.reports.score_file import Row

EXTREMES = 12  # pictures shown of the worst, and of the best
_REASONS, _NAMES = 40, 3  # different reasons that are told, and files for each
_SIDE = 320
_SHOWN_PIXELS = 400_000
_BIN = 5
_BAR_HEIGHT = 200


class Report:
    """A page that is written when the block ends; a context manager.

    However many rows come, it keeps counts, and the names of `EXTREMES` worst and best pictures: these alone are
    explained, at the end, from their files. The page holds 48 pictures of at most 320 pixels a side: 5 MB were they
    noise, about 1 MB in practice. After Ctrl-C or SIGTERM it holds the counts and names so far, and no pictures.

    Args:
      path: of the page, `.html`.
      scorer: to explain with.
      provenance: as `driqa_jax.inference.provenance.describe` gives it.
      progress: told (pictures explained, pictures to explain).

    Raises UserError for another ending, a folder, a missing folder.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        scorer: Scorer,
        provenance: dict[str, Any],
        progress: Callable[[int, int], None] = lambda done, count: None,
    ):
        self.path = check_report(path)
        self._scorer, self._provenance, self._progress = scorer, provenance, progress
        # A score is rounded to .01, so a count for each possible one tells every quantile exactly.
        self._counts = np.zeros(10001, np.int64)
        self._worst: list[tuple[float, int, str]] = []
        self._best: list[tuple[float, int, str]] = []
        self._reasons: dict[str, tuple[int, list[str]]] = {}
        self._scored = self._failed = 0

    def write(self, row: Row) -> None:
        """Count one row: a picture's score, or why it has none."""
        if row.score is None:
            self._count_failure(row.path, row.error or "no reason given")
            return
        self._counts[round(row.score * 100)] += 1
        self._scored += 1
        order = -self._scored  # of equals, the first to come
        for heap, sign in ((self._worst, -1), (self._best, 1)):
            heapq.heappush(heap, (sign * row.score, order, row.path))
            if len(heap) > EXTREMES:
                heapq.heappop(heap)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit)):
            return
        groups = self._groups()
        try:
            if kind is None:
                self._explain([photo for _, photos in groups for photo in photos])
        finally:
            write_bytes(self.path, self._page(groups, complete=kind is None))

    def _count_failure(self, name: str, reason: str) -> None:
        self._failed += 1
        if reason not in self._reasons and len(self._reasons) >= _REASONS:
            reason = "other reasons"
        count, names = self._reasons.get(reason, (0, []))
        self._reasons[reason] = count + 1, names if len(names) == _NAMES else [*names, printable(name)]

    def _groups(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Heading and photos, no photo twice: of few, the lower half is the worst."""
        scored = self._scored
        lower, upper = min(EXTREMES, scored - scored // 2), min(EXTREMES, scored // 2)
        worst = [(-score, name) for score, _, name in sorted(self._worst, reverse=True)[:lower]]
        best = [(score, name) for score, _, name in sorted(self._best, reverse=True)[:upper]]
        found = []
        for heading, rows in (("The worst" if best else "The picture", worst), ("The best", best)):
            photos = [
                {**name_values(name), "source": name, "score": score, "map": None, "reason": "not explained"}
                for score, name in rows
            ]
            found += [(heading, photos)] if photos else []
        return found

    def _explain(self, photos: list[dict[str, Any]]) -> None:
        for done, photo in enumerate(photos):
            self._progress(done, len(photos))
            try:
                seen = self._scorer.explain(photo["source"], shown_pixels=_SHOWN_PIXELS, restore=False)
            except Exception as error:  # it has changed or gone since
                photo["reason"] = f"cannot be read again: {reason(error)}"
                continue
            photo.update(photo_values(seen, _SIDE, _SIDE))

    def _page(self, groups, complete: bool) -> bytes:
        scored = self._scored
        summary, median = [], 0.0
        if scored:
            order = np.cumsum(self._counts)
            lowest, median, highest = (_at(order, share) for share in (0.0, 0.5, 1.0))
            mean = float(self._counts @ np.arange(10001)) / 100 / scored
            summary = [("lowest", lowest), ("median", median), ("mean", mean), ("highest", highest)]
        reasons = sorted(self._reasons.items(), key=lambda one: -one[1][0])
        return page(
            "report.html.j2",
            self._provenance,
            title="Scores of a collection" if scored != 1 else "Score of a picture",
            complete=complete,
            scored=scored,
            failed=self._failed,
            summary=summary,
            described=", ".join(f"{what} {value:.1f}" for what, value in summary),
            bins=_bins(self._counts),
            median_x=round(median * 10, 1),
            groups=groups,
            threshold=STANDS_OUT,
            reasons=[(reason, count, names) for reason, (count, names) in reasons],
        )


def check_report(path: str | os.PathLike) -> pathlib.Path:
    """The path, fit to be written to. Raises UserError for another ending, a folder, a missing folder."""
    return require_writable(path, (".html", ".htm"))


def _at(order: np.ndarray, share: float) -> float:
    """The score at this share of the pictures, out of cumulated counts."""
    wanted = max(share * order[-1], 1)
    return float(np.searchsorted(order, wanted)) / 100


def _bins(counts: np.ndarray) -> list[dict[str, Any]]:
    """Bars of the histogram, in units of a 1000 wide drawing."""
    per_bin = np.add.reduceat(counts[:-1], np.arange(0, 10000, 100 * _BIN))
    per_bin[-1] += counts[-1]  # 100 itself
    tallest = max(int(per_bin.max()), 1)
    bins = []
    for number, count in enumerate(per_bin.tolist()):
        height = round(_BAR_HEIGHT * count / tallest, 1)
        bins.append(
            {
                "x": 10 * _BIN * number + 2,
                "y": round(_BAR_HEIGHT + 30 - height, 1),
                "height": height,
                "count": count,
                "said": f"{_BIN * number} to {_BIN * (number + 1)}: {count:,}",
            }
        )
    return bins
