"""Self-contained HTML pages: rendering, and the report of `driqa score --report`."""

from __future__ import annotations

import base64
import bisect
import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from driqa_jax.errors import reason
from driqa_jax.inference.labels import STANDS_OUT
from driqa_jax.io import printable, replacing, require_writable, write_bytes
from driqa_jax.progress import ProgressFn, silent
from driqa_jax.reports.colormap import EVEN, EVEN_COLOR, color_stops, data_url, fitted, map_words, overlay

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation
    from driqa_jax.inference.scorer import Result, Scorer
    from driqa_jax.reports.meaning import Meaning
    from driqa_jax.reports.score_file import WrittenRow

EXTENSIONS = (".html", ".htm")
EXTREMES = 12  # images shown of the worst, and of the best
_MOST_REASONS, _NAMES_PER_REASON = 40, 3
_SIDE, _SHOWN_PIXELS = 320, 400_000
_BIN, _BAR_HEIGHT = 5, 200
_QUALITY = 80
_PROVENANCE = ("model", "variant", "sha256", "effort", "device", "versions")
# Moves the divider between the image and the restored image. Without scripts it stays in the middle.
_SCRIPT = """
document.addEventListener("input", (event) => {
  if (event.target.matches(".compare input"))
    event.target.parentNode.style.setProperty("--at", event.target.value + "%");
});
"""


def page(template: str, provenance: Mapping[str, Any], **values: Any) -> bytes:
    """Render a template of `driqa_jax/reports/templates` as UTF-8; every value is escaped.

    `provenance` comes from `driqa_jax.inference.provenance.describe`.
    """
    return _environment().get_template(template).render(**_shared(provenance, _SCRIPT), **values).encode()


def write_page(
    path: str | os.PathLike, template: str, provenance: Mapping[str, Any], script: str, **values: Any
) -> None:
    """`page` with another script, into a file. It is written as it is rendered, so values may be generators.

    Raises UserError if it cannot be written; the file then stays as it was.
    """
    pieces = _environment().get_template(template).generate(**_shared(provenance, script), **values)
    with replacing(path) as part, open(part, "wb") as file:
        for piece in pieces:
            file.write(piece.encode())


def script_file(name: str) -> str:
    """The text of a script in `driqa_jax/reports/templates`."""
    return pathlib.Path(__file__).with_name("templates").joinpath(name).read_text("utf-8")


def _shared(provenance: Mapping[str, Any], script: str) -> dict[str, Any]:
    """The values that every page gets."""
    # Second line of defense after escaping: the browser runs this script only and loads nothing.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    rows = [(key, _as_text(provenance[key])) for key in _PROVENANCE if key in provenance]
    return {"policy": policy, "script": script, "stops": color_stops(), "even_color": EVEN_COLOR, "provenance": rows}


def explanation_values(
    explanation: Explanation, side: int, map_side: int, threshold: float = STANDS_OUT
) -> dict[str, Any]:
    """Template values of one explanation. Images are WebP with at most `side`, maps `map_side`, pixels a side."""
    height, width = explanation.size
    shown = explanation.picture.shape
    verb = "shown" if explanation.not_restored else "restored"
    reduced = f", {verb} at {shown[1]} × {shown[0]}" if explanation.reduced else ""
    restored = explanation.restored
    return {
        **name_values(explanation.name),
        "score": explanation.score,
        "facts": f"{width} × {height} pixels{reduced}",
        "before": inline(explanation.picture, side),
        "after": None if restored is None else inline(restored, side),
        "not_restored": explanation.not_restored,
        "map": inline(overlay(explanation), map_side),
        "map_words": map_words(explanation),
        "lowest": round(float(explanation.quality_map.min()), 1),
        "highest": round(float(explanation.quality_map.max()), 1),
        "scale": [round(end, 1) for end in explanation.map_scale],
        "even": EVEN if explanation.even else "",
        "faults": explanation.faults(threshold),
        "named": explanation.named(threshold),
    }


def name_values(name: str) -> dict[str, str]:
    """A file's path, base name and folder, as valid text."""
    path = printable(name)
    folder, last = os.path.split(path)
    return {"path": path, "name": last or path, "folder": folder}


class Report:
    """A context manager that collects rows and writes one HTML page at the end.

    Memory is bounded: it keeps counts and the names of the `EXTREMES` worst and best images. At the end it explains
    these images from their files and embeds them at up to 320 pixels a side (at most 5 MB in all). After Ctrl-C or
    SIGTERM the page has the counts and names so far, without images. After any other exception no page is written.

    scorer: explains the images. provenance: from `driqa_jax.inference.provenance.describe`. progress: counts the images
    to explain. meaning: adds percentiles and bands. Raises UserError if the extension of `path` is not one of
    `EXTENSIONS`, it is a folder, or its folder does not exist.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        scorer: Scorer,
        provenance: dict[str, Any],
        progress: ProgressFn = silent,
        meaning: Meaning | None = None,
    ):
        self.path = require_writable(path, EXTENSIONS)
        self._scorer, self._provenance, self._progress, self._meaning = scorer, provenance, progress, meaning
        # Scores have two decimals, so one count per value gives exact quantiles.
        self._counts = np.zeros(10001, np.int64)
        # Score (for the best, its negative), row number, name; sorted, so among equal scores the first row wins.
        self._worst: list[tuple[float, int, str]] = []
        self._best: list[tuple[float, int, str]] = []
        self._reasons: dict[str, tuple[int, list[str]]] = {}
        self._scored = self._failed = 0

    def write(self, row: Result | WrittenRow) -> None:
        """Count one row."""
        if row.score is None:
            self._count_failure(row.path, row.error or "no reason given")
            return
        self._counts[round(row.score * 100)] += 1
        self._scored += 1
        for rows, sign in ((self._worst, 1), (self._best, -1)):
            bisect.insort(rows, (sign * row.score, self._scored, row.path))
            del rows[EXTREMES:]

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit)):
            return
        groups = self._groups()
        try:
            if kind is None:
                self._explain([image for _, images in groups for image in images])
        finally:
            write_bytes(self.path, self._page(groups, complete=kind is None))

    def _count_failure(self, name: str, reason: str) -> None:
        self._failed += 1
        if reason not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            reason = "other reasons"
        count, names = self._reasons.get(reason, (0, []))
        self._reasons[reason] = count + 1, names if len(names) == _NAMES_PER_REASON else [*names, printable(name)]

    def _groups(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Headings with their images. No image appears twice: with few images the lower half is the worst."""
        upper = self._scored // 2
        worst, best = self._worst[: self._scored - upper], self._best[:upper]
        groups = []
        for heading, rows in (("The worst" if best else "The picture", worst), ("The best", best)):
            images = [
                {**name_values(name), "source": name, "score": abs(score), "map": None, "reason": "not explained"}
                | {"meaning": self._meaning.words(abs(score)) if self._meaning else ""}
                for score, _, name in rows
            ]
            groups += [(heading, images)] if images else []
        return groups

    def _explain(self, images: list[dict[str, Any]]) -> None:
        for done, image in enumerate(images):
            self._progress("explaining for the report", done, len(images))
            try:
                explanation = self._scorer.explain(image["source"], shown_pixels=_SHOWN_PIXELS, restore=False)
            except Exception as error:  # the file changed after it was scored
                image["reason"] = f"cannot be read again: {reason(error)}"
                continue
            image.update(explanation_values(explanation, _SIDE, _SIDE))

    def _page(self, groups, complete: bool) -> bytes:
        scored = self._scored
        summary, median = [], 0.0
        if scored:
            ranks = np.maximum(np.array([0.0, 0.5, 1.0]) * scored, 1)
            lowest, median, highest = (np.searchsorted(np.cumsum(self._counts), ranks) / 100).tolist()
            mean = float(self._counts @ np.arange(10001)) / 100 / scored
            summary = [("lowest", lowest), ("median", median), ("mean", mean), ("highest", highest)]
        reasons = sorted(self._reasons.items(), key=lambda item: -item[1][0])
        return page(
            "report.html.j2",
            self._provenance,
            title="Scores of a collection" if scored != 1 else "Score of a picture",
            complete=complete,
            scored=scored,
            failed=self._failed,
            summary=summary,
            described=", ".join(f"{name} {value:.1f}" for name, value in summary),
            bins=_bins(self._counts),
            median_x=round(median * 10, 1),
            groups=groups,
            bands=self._meaning.band_counts(self._counts) if self._meaning else [],
            reference=self._meaning.about() if self._meaning else "",
            threshold=STANDS_OUT,
            reasons=[(reason, count, names) for reason, (count, names) in reasons],
        )


def _bins(counts: np.ndarray) -> list[dict[str, Any]]:
    """Histogram bars in the units of a drawing 1000 wide."""
    per_bin = np.add.reduceat(counts[:-1], np.arange(0, 10000, 100 * _BIN))
    per_bin[-1] += counts[-1]  # the score 100
    tallest = max(int(per_bin.max()), 1)
    bins = []
    for number, count in enumerate(per_bin.tolist()):
        height = round(_BAR_HEIGHT * count / tallest, 1)
        title = f"{_BIN * number} to {_BIN * (number + 1)}: {count:,}"
        y = round(_BAR_HEIGHT + 30 - height, 1)
        bins.append({"x": 10 * _BIN * number + 2, "y": y, "height": height, "count": count, "title": title})
    return bins


def inline(image: np.ndarray, side: int) -> dict[str, Any]:
    """Template values of a uint8 (H, W, 3) image, as WebP with at most `side` pixels a side."""
    small = fitted(image, side)
    return {"uri": data_url(small, "webp", quality=_QUALITY), "width": small.shape[1], "height": small.shape[0]}


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items())
    return printable(str(value))


@functools.cache
def _environment():
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("driqa_jax.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
