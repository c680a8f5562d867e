"""`driqa score`: pictures to scores from 0 to 100."""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import sys
import time

from driqa_jax.cli.options import add_model_options, loading
from driqa_jax.errors import UserError

_EXAMPLES = """\
examples:
  driqa score photo.jpg
  driqa score photos/ -o scores.csv
  driqa score photos/ -o scores.csv --resume      the same command, again, goes on where it was stopped
  driqa score 'photos/**/*.png' --model runs/mine | sort -t, -k2 -n
  find photos -name '*.jpg' -newer yesterday | driqa score -
  find photos -name '*.jpg' -print0 | driqa score -0 -          for names with line ends in them

A score is 100 * MOS on the scale that the model learned, higher is better; rows come in input order. On a
terminal they are shown as a table; elsewhere they are CSV: path,score,uncertainty,error. Score +- uncertainty is made
to hold the human score of nine in ten photos like those of the training set. A file given by name is always tried; in
folders the usual picture extensions are; names that begin with a dot, pipes, sockets and devices are passed over.

The path - reads standard input: a path a line, or JSON Lines, {"path": ..., other keys}. A row is written as
soon as its picture is scored. JSON Lines give JSON Lines, with the other keys.

exit codes: 0 all scored, 1 some or all of the pictures failed, 2 nothing was there to score, 130 Ctrl-C, 143
SIGTERM (files then hold the rows so far)
"""


def add_parser(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "score",
        help="score pictures",
        description="Score pictures: files, folders (with all below them), globs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder, a glob, or - alone")
    parser.add_argument("-0", "--null", action="store_true", help="with -: a NUL character ends each name")
    add_model_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="F.csv|F.jsonl",
        help="write rows to this file, and what made them to F.meta.json",
    )
    parser.add_argument(
        "--report",
        metavar="F.html",
        help="write one page: a histogram, the worst and the best pictures with maps and degradations",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the rows that an interrupted run left for -o, and go on after them",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score; returns 0, or 1 where a picture failed."""
    from driqa_jax.reports import score_file
    from driqa_jax.reports.html import Report, check_report

    if args.output:
        score_file.check_output(args.output)
    elif args.resume:
        raise UserError("--resume goes on with a file: name it with -o")
    if args.report:
        check_report(args.report)
    pictures = _pictures(args.paths, args.null)
    # Only now what takes a second to start: a wrong path is told at once.
    from driqa_jax.inference.provenance import describe
    from driqa_jax.inference.scorer import load

    scorer = load(args.model, **loading(args))
    with contextlib.ExitStack() as stack:
        progress = _Progress(_stderr_console())
        stack.callback(progress.summarize)
        report = None
        if args.report:  # outside the rows: they are safe before it begins to explain
            report = stack.enter_context(Report(args.report, scorer, describe(scorer), progress.explaining))
        if args.output:
            sink = stack.enter_context(score_file.ScoreFile(args.output, describe(scorer), args.resume))
            progress.keep(sink.kept, sink.failed)
            for row in sink.kept_rows() if report else ():
                report.write(row)
            pictures = sink.rest(pictures)
        elif sys.stdout.isatty() and args.paths != ["-"]:
            sink = stack.enter_context(_Table())
        else:
            sink, pictures = _to_stdout(pictures)
        stack.callback(progress.stop)  # before the table appears where the live line stood
        progress.start()
        waiting = collections.deque()
        for result in scorer.stream(_sources(pictures, waiting)):
            sink.write(result, waiting.popleft())
            if report:
                report.write(result)
            progress.count(result, loud=not isinstance(sink, _Table))
    if not progress.seen:
        raise UserError("standard input: no path came")
    return 1 if progress.failed else 0


def _pictures(paths, null):
    """What to score, as `Listed`; UserError at once where there is nothing."""
    from driqa_jax.reports.inputs import Listed, list_pictures, read_list

    if paths == ["-"]:
        return read_list(sys.stdin.buffer, null)
    if null:
        raise UserError("-0 is about the names on standard input: driqa score -0 -")
    if "-" in paths:
        raise UserError("- reads standard input and stands alone; name a file called - as ./-")
    return (Listed(path, path) for path in list_pictures(paths))


def _sources(pictures, waiting):
    """What the scorer reads; the other keys of each picture's line wait in order for its row."""
    from driqa_jax.inference.stream import PAUSE

    for picture in pictures:
        if picture is not PAUSE:
            waiting.append(picture.others)
            picture = picture.source
        yield picture


def _to_stdout(pictures):
    """Rows in the form of the input: JSON Lines where its first line was JSON, else CSV."""
    from driqa_jax.inference.stream import PAUSE
    from driqa_jax.reports import score_file

    first = next((picture for picture in pictures if picture is not PAUSE), None)
    kind = score_file.JSONLRows if first is not None and first.json else score_file.CSVRows
    return kind(sys.stdout), itertools.chain([first] if first is not None else [], pictures)


class _Table:
    """Rows for a terminal, shown when all are there, or when Ctrl-C ends it."""

    def __enter__(self):
        from rich.table import Table

        self._table = Table("path", "score", "uncertainty")
        for column in self._table.columns[1:]:
            column.justify = "right"
        return self

    def write(self, result, others=None) -> None:
        from rich.text import Text

        shown = Text(result.error, style="red") if result.score is None else Text(f"{result.score:.2f}")
        spread = "" if result.uncertainty is None else f"{result.uncertainty:.2f}"
        self._table.add_row(Text(result.path.encode(errors="replace").decode()), shown, spread)

    def __exit__(self, *unused) -> None:
        from rich.console import Console

        if self._table.row_count:
            Console().print(self._table)


class _Progress:
    """On standard error: a live line on a terminal, failures as they come, a summary at the end."""

    def __init__(self, console):
        self._console, self._status = console, None
        self.scored, self.failed, self.kept, self._began = 0, 0, 0, time.monotonic()

    @property
    def seen(self) -> int:
        return self.scored + self.failed

    def keep(self, rows: int, failed: int) -> None:
        """Rows of an earlier run, `failed` of them without a score."""
        self.kept, self.failed, self.scored = rows, failed, rows - failed
        if rows:
            self._say(f"{rows} rows kept")

    def start(self) -> None:
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._status = self._console.status("scoring")
            self._status.start()

    def count(self, result, loud: bool) -> None:
        failed = result.error is not None
        self.failed += failed
        self.scored += not failed
        if failed and loud:
            self._say(f"{result.path}: {result.error}")
        if self._status:
            self._status.update(f"{self.scored} scored, {self.failed} failed, {self._rate():.1f} pictures/s")

    def explaining(self, done: int, count: int) -> None:
        if done == 0:
            self._say(f"explaining {count} pictures for the report")

    def stop(self) -> None:
        if self._status:
            self._status.stop()

    def summarize(self) -> None:
        if self.seen:
            took = time.monotonic() - self._began
            self._say(f"{self.scored} scored, {self.failed} failed, {took:.1f} s, {self._rate():.1f} pictures/s")

    def _rate(self) -> float:
        return (self.seen - self.kept) / max(time.monotonic() - self._began, 1e-9)

    def _say(self, text: str) -> None:
        safe = text.encode(errors="replace").decode()
        self._console.print(safe, markup=False, highlight=False, soft_wrap=True)


def _stderr_console():
    from rich.console import Console

    return Console(stderr=True)
