"""The output folder of `driqa cull`: scores and facts, findings, and the choices."""

from __future__ import annotations

import collections
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from driqa_jax.data.photo_facts import Facts, measure
from driqa_jax.errors import UnreadableImage, UserError, reason
from driqa_jax.inference.scorer import Result
from driqa_jax.inference.stream import views_in_order
from driqa_jax.io import to_csv, write_bytes, write_text
from driqa_jax.reports.culling import COLUMNS, Choice, Photo
from driqa_jax.reports.inputs import Listed
from driqa_jax.reports.score_file import ScoreFile

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Scorer

SCORES, FINDINGS, PAGE = "scores.jsonl", "findings.jsonl", "index.html"
CHOICES_CSV, CHOICES_JSONL = "choices.csv", "choices.jsonl"
_LEAST = 0.01  # probability from which a finding is written
TellFn = Callable[[Result, int], None]


def write_scores(
    folder: pathlib.Path,
    scorer: Scorer,
    paths: Sequence[str],
    provenance: Mapping[str, Any],
    resume: bool,
    tell: TellFn,
) -> None:
    """Score and measure photos into `SCORES`: the columns of a score file, and `facts`.

    With `resume`, the rows of an interrupted run are kept, as `ScoreFile` does. `tell` gets each new row and the number
    of all rows so far.
    """
    with ScoreFile(folder / SCORES, provenance, resume) as file:
        facts: collections.deque[Facts | None] = collections.deque()
        rest = (image.path for image in file.rest(Listed(path, path) for path in paths))
        for result in scorer.stream(_measured(rest, scorer, facts)):
            measured = facts.popleft()
            file.write(result, {} if measured is None else {"facts": measured.to_dict()})
            tell(result, file.rows)


def write_findings(
    folder: pathlib.Path,
    scorer: Scorer,
    photos: Sequence[Photo],
    provenance: Mapping[str, Any],
    resume: bool,
    tell: TellFn,
) -> None:
    """Find the degradations of photos into `FINDINGS`: as `write_scores`, with `findings` instead of `facts`.

    A photo that cannot be read any more has an error.
    """
    resume = resume and _kept_fit(folder, photos, provenance)
    with ScoreFile(folder / FINDINGS, provenance, resume) as file:
        by_path = {photo.path: photo for photo in photos}
        rest = [image.path for image in file.rest(Listed(photo.path, photo.path) for photo in photos)]
        for path, found in zip(rest, scorer.findings(rest), strict=True):
            if isinstance(found, Exception):
                result, others = Result(path, None, reason(found, path)), {}
            else:
                result, others = Result(path, by_path[path].score), {"findings": _plain(found)}
            file.write(result, others)
            tell(result, file.rows)


def _kept_fit(folder: pathlib.Path, photos: Sequence[Photo], provenance: Mapping[str, Any]) -> bool:
    """Whether the kept findings are those of the first photos. Photos that were added since may change the groups."""
    with ScoreFile(folder / FINDINGS, provenance, resume=True) as file:
        return [row.path for row in file.kept_rows()] == [photo.path for photo in photos[: file.kept]]


def read_scores(folder: pathlib.Path) -> tuple[list[Photo], list[Choice]]:
    """The photos that have a score, and the rows of those that failed.

    Raises UserError if a row has no facts of this format.
    """
    photos, failed = [], []
    for row in _rows(folder / SCORES):
        if row["error"] is not None:
            failed.append(Choice(row["path"], None, None, None, "", error=row["error"]))
            continue
        try:
            photos.append(Photo(row["path"], row["score"], Facts.from_dict(row["facts"])))
        except (KeyError, TypeError, ValueError):  # of `driqa score -o`, or of another version
            raise UserError(f"{folder / SCORES}: was not written by this command; start without --resume") from None
    return photos, failed


def read_findings(folder: pathlib.Path) -> dict[str, dict[str, tuple[float, float]]]:
    """The findings by path: probability and severity by name."""
    return {row["path"]: row["findings"] for row in _rows(folder / FINDINGS) if "findings" in row}


def write_choices(folder: pathlib.Path, rows: Iterable[Choice]) -> None:
    """Write the rows as CSV and as JSON Lines."""
    rows = list(rows)
    table = to_csv([COLUMNS, *(row.to_row() for row in rows)])
    # A file name need not be UTF-8; surrogateescape writes its bytes unchanged.
    write_bytes(folder / CHOICES_CSV, table.encode("utf-8", "surrogateescape"))
    write_text(folder / CHOICES_JSONL, "".join(json.dumps(row.to_dict()) + "\n" for row in rows))


def _measured(
    paths: Iterable[str], scorer: Scorer, facts: collections.deque[Facts | None]
) -> Iterator[str | UnreadableImage]:
    """The scorer's input: paths, or the error of a photo that cannot be measured. Their facts go to `facts`."""
    named = ((path, path) for path in paths)
    for path, found in views_in_order(named, lambda path, source: measure(source, scorer.max_pixels), scorer.workers):
        if isinstance(found, Exception):
            facts.append(None)
            yield UnreadableImage(path, reason(found, path))
        else:
            facts.append(found)
            yield path


def _plain(findings) -> dict[str, list[float]]:
    return {
        one.name: [round(one.probability, 4), round(one.severity, 4)] for one in findings if one.probability >= _LEAST
    }


def _rows(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)
