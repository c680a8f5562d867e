"""`driqa score`: pictures to scores from 0 to 100."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from driqa_jax.cli.options import add_model_options, loading

_EXAMPLES = """\
examples:
  driqa score photo.jpg
  driqa score photos/ -o scores.csv
  driqa score 'photos/**/*.png' --model runs/mine | sort -t, -k2 -n

A score is 100 * MOS on the scale that the model learned, higher is better; rows come in input order. On a
terminal they are shown as a table; elsewhere they are CSV: path,score,error. A file given by name is always
tried; in folders the usual picture extensions are, and names that begin with a dot are passed over.

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
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder or a glob")
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score; returns 0, or 1 where a picture failed."""
    from driqa_jax.scoring import outputs
    from driqa_jax.scoring.listing import list_pictures
    from driqa_jax.scoring.report import Report, check_report

    if args.output:
        outputs.check_output(args.output)
    if args.report:
        check_report(args.report)
    paths = list_pictures(args.paths)
    # Only now what takes a second to start: a wrong path is told at once.
    from driqa_jax.scoring.provenance import describe
    from driqa_jax.scoring.scorer import load

    scorer = load(args.model, **loading(args))
    console = _stderr_console()
    with contextlib.ExitStack() as stack:
        progress = _Progress(console)
        stack.callback(progress.summarize)
        report = None
        if args.report:  # outside the rows: they are safe before it begins to explain
            report = stack.enter_context(Report(args.report, scorer, describe(scorer), progress.explaining))
        if args.output:
            sink = stack.enter_context(outputs.ScoreFile(args.output, describe(scorer)))
        elif sys.stdout.isatty():
            sink = stack.enter_context(_Table())
        else:
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(errors="surrogateescape")  # a file name need not be text
            sink = outputs.CSVRows(sys.stdout)
        stack.callback(progress.stop)  # before the table appears where the live line stood
        progress.start()
        for result in scorer.stream(paths):
            sink.write(result)
            if report:
                report.write(result)
            progress.count(result, loud=not isinstance(sink, _Table))
    return 1 if progress.failed else 0


class _Table:
    """Rows for a terminal, shown when all are there, or when Ctrl-C ends it."""

    def __enter__(self):
        from rich.table import Table

        self._table = Table("path", "score")
        self._table.columns[1].justify = "right"
        return self

    def write(self, result) -> None:
        from rich.text import Text

        shown = Text(result.error, style="red") if result.score is None else Text(f"{result.score:.2f}")
        self._table.add_row(Text(result.path.encode(errors="replace").decode()), shown)

    def __exit__(self, *unused) -> None:
        from rich.console import Console

        if self._table.row_count:
            Console().print(self._table)


class _Progress:
    """On standard error: a live line on a terminal, failures as they come, a summary at the end."""

    def __init__(self, console):
        self._console, self._status = console, None
        self.scored, self.failed, self._began = 0, 0, time.monotonic()

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
        if self.scored + self.failed:
            took = time.monotonic() - self._began
            self._say(
                f"{self.scored} scored, {self.failed} failed, {took:.1f} s, {self._rate():.1f} pictures/s"
            )

    def _rate(self) -> float:
        return (self.scored + self.failed) / max(time.monotonic() - self._began, 1e-9)

    def _say(self, text: str) -> None:
        safe = text.encode(errors="replace").decode()
        self._console.print(safe, markup=False, highlight=False, soft_wrap=True)


def _stderr_console():
    from rich.console import Console

    return Console(stderr=True)
