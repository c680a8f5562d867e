"""The output folder of `driqa explain`: one sheet per image, one JSON Lines file, HTML pages."""

import json
import os
import pathlib
from typing import Any, Self

from driqa_jax.inference.explain import Explanation
from driqa_jax.inference.labels import STANDS_OUT
from driqa_jax.io import part_name, printable, write_bytes, write_errors
from driqa_jax.reports.explanation_png import sheet
from driqa_jax.reports.html import explanation_values, page

PER_PAGE = 40  # images; a page then has about 10 MB
_SIDE, _MAP_SIDE = 800, 480
_LONGEST_STEM = 150  # bytes; file systems allow 255 per name


class Gallery:
    """A context manager that writes explanations into a folder.

    It writes `NAME.png` per image (numbered where names collide), `explanations.jsonl` with one line per image (`path`
    and `error` for failures), and `index.html`, `index-2.html`, ... with `PER_PAGE` images each. Memory holds at most
    one page. When the block ends, also by an exception, the files hold everything added so far.

    folder: created if absent; existing files of the same names are replaced. provenance: from
    `driqa_jax.inference.provenance.describe`. threshold: probability in [0, 1] from which a degradation is named.
    Raises UserError if the folder cannot be created or written.
    """

    def __init__(self, folder: str | os.PathLike, provenance: dict[str, Any], threshold: float = STANDS_OUT):
        self.folder, self._provenance, self._threshold = pathlib.Path(folder), provenance, threshold
        self._taken: set[str] = set()
        self._images: list[dict[str, Any]] = []
        self._failed: list[tuple[str, str]] = []
        self._pages = 0

    def __enter__(self) -> Self:
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lines_path = self.folder / "explanations.jsonl"
            self._part = part_name(self._lines_path)
            self._lines = open(self._part, "w", encoding="utf-8")  # noqa: SIM115
        return self

    def add(self, explanation: Explanation) -> pathlib.Path:
        """Write the sheet and the line of one image; return the path of the sheet."""
        if len(self._images) == PER_PAGE:
            self._write_page(last=False)
        target = self.folder / f"{self._free_stem(explanation.name)}.png"
        write_bytes(target, sheet(explanation, self._threshold))
        self._write_line({**explanation.to_dict(self._threshold), "sheet": target.name})
        self._images.append(explanation_values(explanation, _SIDE, _MAP_SIDE, self._threshold))
        return target

    def fail(self, name: str, reason: str) -> None:
        """Record an image that could not be explained."""
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
        values = {"photos": self._images, "failed": self._failed, "links": links, "threshold": self._threshold}
        html = page("explain.html.j2", self._provenance, title=title, **values)
        write_bytes(self.folder / _page_name(number), html)
        self._images, self._failed = [], []

    def _free_stem(self, name: str) -> str:
        """The image's stem, numbered so that it is unique even on case-insensitive file systems."""
        # Cut by bytes, and drop bytes that are not UTF-8, which some file systems refuse.
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
