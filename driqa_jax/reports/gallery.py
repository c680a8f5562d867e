"""What `driqa explain` leaves in its folder: a sheet a photo, one file of JSON Lines, pages to look through."""

from __future__ import annotations

import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

from driqa_jax.inference.labels import STANDS_OUT
from driqa_jax.io import part_name, write_bytes, write_errors
from driqa_jax.reports.explanation_png import sheet
from driqa_jax.reports.page import page, photo_values, printable

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation

PER_PAGE = 40  # photos; a page then has some 10 MB
_SIDE, _MAP_SIDE = 800, 480
_LONGEST_STEM = 150  # bytes; file systems end at 255


class Gallery:
    """A folder of explanations that grows photo by photo; a context manager.

    `NAME.png` for each photo, distinct where names collide; `explanations.jsonl`, a line a photo, with `path` and
    `error` for one that failed; `index.html`, and `index-2.html`, ... beyond `PER_PAGE` photos. At most one page of
    photos is held in memory. When the block ends, however it ends, pages and lines hold what there is.

    Args:
      folder: made if it is not there; files of the same names in it are replaced.
      provenance: as `driqa_jax.inference.provenance.describe` gives it.
      threshold: the probability from which on a degradation is named.

    Raises UserError where the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike, provenance: dict[str, Any], threshold: float = STANDS_OUT):
        self.folder, self._provenance, self._threshold = pathlib.Path(folder), provenance, threshold
        self._taken: set[str] = set()
        self._photos: list[dict[str, Any]] = []
        self._failed: list[tuple[str, str]] = []
        self._pages = 0

    def __enter__(self) -> Gallery:
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lines_path = self.folder / "explanations.jsonl"
            self._part = part_name(self._lines_path)
            self._lines = open(self._part, "w", encoding="utf-8")  # noqa: SIM115
        return self

    def add(self, explanation: Explanation) -> pathlib.Path:
        """Write one photo's sheet and line; returns where the sheet is."""
        if len(self._photos) == PER_PAGE:
            self._write_page(last=False)
        target = self.folder / f"{self._stem(explanation.name)}.png"
        write_bytes(target, sheet(explanation, self._threshold))
        self._write_line({**explanation.to_dict(self._threshold), "sheet": target.name})
        self._photos.append(photo_values(explanation, _SIDE, _MAP_SIDE, self._threshold))
        return target

    def fail(self, name: str, reason: str) -> None:
        """Note a photo that cannot be explained."""
        self._failed.append((printable(name), reason))
        self._write_line({"path": name, "error": reason})

    def __exit__(self, *unused) -> None:
        with write_errors(self.folder):
            self._lines.close()
            os.replace(self._part, self._lines_path)
        self._write_page(last=True)

    def _write_line(self, values: dict[str, Any]) -> None:
        with write_errors(self.folder):
            self._lines.write(json.dumps(values) + "\n")

    def _write_page(self, last: bool) -> None:
        number = self._pages = self._pages + 1
        links = [("previous page", _page_name(number - 1))] if number > 1 else []
        links += [] if last else [("next page", _page_name(number + 1))]
        title = "Photos, explained" + (f", page {number}" if links else "")
        values = {"photos": self._photos, "failed": self._failed, "links": links, "threshold": self._threshold}
        html = page("explain.html.j2", self._provenance, title=title, **values)
        write_bytes(self.folder / _page_name(number), html)
        self._photos, self._failed = [], []

    def _stem(self, name: str) -> str:
        """The photo's name without its ending, as no other photo here has it on any file system."""
        # Cut in bytes, and without those that are no text: not every file system takes them.
        stem = pathlib.PurePath(name).stem.encode("utf-8", "surrogateescape")[:_LONGEST_STEM]
        stem = stem.decode("utf-8", "ignore") or "picture"
        free, number = stem, 1
        while free.casefold() in self._taken:
            number += 1
            free = f"{stem}-{number}"
        self._taken.add(free.casefold())
        return free


def _page_name(number: int) -> str:
    return "index.html" if number == 1 else f"index-{number}.html"
