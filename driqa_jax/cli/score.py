"""Score images: files, folders (recursively), globs.

examples:
  driqa score photo.jpg
  driqa score photos/ -o scores.csv
  driqa score photos/ -o scores.csv --resume      the same command resumes an interrupted run
  driqa score 'photos/**/*.png' --model runs/mine | sort -t, -k2 -n
  driqa score photos/ -o scores.csv --percentile --bands stars
  driqa score photos/ -o scores.csv --reasons
  driqa score photos/ -o scores.csv --xmp darktable --dry-run
  find photos -name '*.jpg' -newer yesterday | driqa score -
  find photos -name '*.jpg' -print0 | driqa score -0 -          for names with newlines

A score is 100 * MOS on the scale of the training data; higher is better. Rows are in input order: a table on a
terminal, otherwise CSV: path,score,uncertainty,error. Score +- uncertainty is calibrated to contain the human score of
nine in ten images like those of the validation set. A file given by name is always tried. In folders, files with the
usual image extensions are scored; hidden files, pipes, sockets and devices are skipped.

The path - reads standard input: one path per line, or JSON Lines, {"path": ..., other keys}. Each row is written as
soon as its image is scored. JSON Lines give JSON Lines that keep the other keys.

exit codes: 0 all scored, 1 some or all images failed, 2 nothing to score, 130 Ctrl-C, 143 SIGTERM (files then contain
the rows so far)
"""

import argparse
import collections
import contextlib
import itertools
import sys
import time

from driqa_jax.cli.meaning import add_meaning_options, add_sidecar_options, check_options, meaning_of, sidecars_for
from driqa_jax.cli.options import Subparsers, add_command, add_model_options, add_paths, loading
from driqa_jax.errors import UserError
from driqa_jax.io import printable, require_writable


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "score", "score images", __doc__, run=run)
    add_paths(parser, about="file, folder, glob, or - alone")
    add = parser.add_argument
    add("-0", "--null", action="store_true", help="with -: names end with a NUL character")
    add_model_options(parser)
    add("-o", "--output", metavar="F.csv|F.jsonl", help="write rows to this file and provenance to F.meta.json")
    about = "write one page: histogram, worst and best images with quality maps and degradations"
    add("--report", metavar="F.html", help=about)
    add("--resume", action="store_true", help="keep the rows of an interrupted run in -o and score the other images")
    about = "add a column: codes of what stands out, such as blur;noise, from the tiles that the score reads"
    add("--reasons", action="store_true", help=about)
    add_meaning_options(parser)
    add_sidecar_options(parser)


def run(args: argparse.Namespace) -> int:
    """Score; returns 0, or 1 if an image or a sidecar failed."""
    from driqa_jax.reports import score_file
    from driqa_jax.reports.html import EXTENSIONS, Report

    if args.output:
        score_file.check_output(args.output)
    elif args.resume:
        raise UserError("--resume needs the file to resume; give it with -o")
    if args.report:
        require_writable(args.report, EXTENSIONS)
    bands = check_options(args)
    images = _images(args.paths, args.null)
    # These imports take a second; a wrong path fails before them.
    from driqa_jax.inference.provenance import describe
    from driqa_jax.inference.scorer import load

    scorer = load(args.model, **loading(args), **({"reasons": True} if args.reasons else {}))
    meaning = meaning_of(args, bands, scorer)
    provenance = {**describe(scorer), **meaning.describe()}
    with contextlib.ExitStack() as stack:
        progress = _Progress()
        stack.callback(progress.summarize)
        report, sidecars = None, sidecars_for(args, meaning, scorer, progress.say) if args.xmp else None
        if args.report:  # outermost: the rows are saved before the report explains images
            report = stack.enter_context(Report(args.report, scorer, provenance, progress.explaining, meaning))
        if meaning.by_folder:
            stack.push(_ranking(meaning, args.output, sidecars))  # once the file of the scores is whole
        written_now = [each for each in (report, None if meaning.by_folder else sidecars) if each]
        if args.output:
            sink = stack.enter_context(score_file.ScoreFile(args.output, provenance, args.resume, meaning.columns))
            progress.keep(sink.kept, sink.failed)
            for row in sink.kept_rows() if written_now else ():
                for each in written_now:
                    each.write(row)
            images = sink.rest(images)
        elif sys.stdout.isatty() and args.paths != ["-"]:
            sink = stack.enter_context(_Table(meaning.columns))
        else:
            sink, images = _to_stdout(images, meaning.columns)
        stack.callback(progress.stop)  # before the table is printed in place of the live line
        progress.start()
        waiting = collections.deque()
        for result in scorer.stream(_sources(images, waiting)):
            sink.write(meaning.annotate(result), waiting.popleft())
            for each in written_now:
                each.write(result)
            progress.count(result, loud=not isinstance(sink, _Table))
    if not progress.total:
        raise UserError("standard input contains no path")
    if sidecars:
        progress.say(sidecars.summary())
    return 1 if progress.failed or (sidecars and sidecars.failed) else 0


def _ranking(meaning, path, sidecars):
    """An exit of a stack: gives the bands by folder to the score file, and to the sidecars if there are any."""

    def finish(kind, error, trace):
        if kind is None:
            from driqa_jax.reports.score_file import scored_rows

            meaning.rank_folder(path)
            for row in scored_rows(path) if sidecars else ():
                sidecars.write(row)

    return finish


def _images(paths, null):
    """The images to score, as `Listed`. Raises UserError if there are none."""
    from driqa_jax.reports.inputs import Listed, list_pictures, read_list

    if paths == ["-"]:
        if sys.stdin is None:
            raise UserError("standard input is closed")
        return read_list(sys.stdin.buffer, null)
    if null:
        raise UserError("-0 applies to names on standard input: driqa score -0 -")
    if "-" in paths:
        raise UserError("- reads standard input and must be the only path; write ./- for a file with the name -")
    return (Listed(path, path) for path in list_pictures(paths))


def _sources(images, waiting):
    """The scorer's input. Appends the other keys of each image to `waiting`, in the order of the rows."""
    from driqa_jax.inference.stream import PAUSE

    for image in images:
        if image is not PAUSE:
            waiting.append(image.others)
            image = image.source
        yield image


def _to_stdout(images, columns):
    """Rows in the format of the input: JSON Lines if its first line was JSON, otherwise CSV."""
    from driqa_jax.inference.stream import PAUSE
    from driqa_jax.reports import score_file

    first = next((image for image in images if image is not PAUSE), None)
    kind = score_file.JSONLRows if first is not None and first.json else score_file.CSVRows
    return kind(sys.stdout, columns=columns), itertools.chain([first] if first is not None else [], images)


class _Table:
    """Rows for a terminal, printed at the end or on Ctrl-C."""

    def __init__(self, columns):
        self._columns = columns

    def __enter__(self):
        from rich.table import Column, Table

        heads = ("score", "uncertainty", *self._columns)
        self._table = Table("path", *(Column(head, justify="right") for head in heads))
        return self

    def write(self, result, others=None) -> None:
        from rich.text import Text

        score = Text(result.error, style="red") if result.score is None else Text(f"{result.score:.2f}")
        uncertainty = "" if result.uncertainty is None else f"{result.uncertainty:.2f}"
        extra = ("" if result.extra[name] is None else str(result.extra[name]) for name in self._columns)
        self._table.add_row(Text(printable(result.path)), score, uncertainty, *extra)

    def __exit__(self, *unused) -> None:
        from rich.console import Console

        if self._table.row_count:
            Console().print(self._table)


class _Progress:
    """Standard error: a live line on a terminal, each failure, and a summary at the end."""

    def __init__(self):
        self._console = self._status = None
        if sys.stderr.isatty():  # otherwise rich, which takes a tenth of a start, is not needed
            from rich.console import Console

            self._console = Console(stderr=True)
            self._status = self._console.status("scoring") if self._console.is_terminal else None
        self.total, self.failed, self._kept, self._began = 0, 0, 0, time.monotonic()

    def keep(self, rows: int, failed: int) -> None:
        """Count `rows` of an earlier run, `failed` of them without a score."""
        self.total, self.failed, self._kept = rows, failed, rows
        if rows:
            self.say(f"{rows} rows kept")

    def start(self) -> None:
        self._began = time.monotonic()
        if self._status:
            self._status.start()

    def count(self, result, loud: bool) -> None:
        self.total += 1
        self.failed += result.error is not None
        if loud and result.error is not None:
            self.say(f"{result.path}: {result.error}")
        if self._status:
            self._status.update(f"{self._counts()}, {self._rate():.1f} images/s")

    def explaining(self, task: str, done: int, count: int) -> None:
        if done == 0:
            self.say(f"explaining {count} images for the report")

    def stop(self) -> None:
        if self._status:
            self._status.stop()

    def summarize(self) -> None:
        if self.total:
            seconds = time.monotonic() - self._began
            self.say(f"{self._counts()}, {seconds:.1f} s, {self._rate():.1f} images/s")

    def _counts(self) -> str:
        return f"{self.total - self.failed} scored, {self.failed} failed"

    def _rate(self) -> float:
        return (self.total - self._kept) / max(time.monotonic() - self._began, 1e-9)

    def say(self, text: str) -> None:
        if self._console:
            self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        else:
            print(printable(text), file=sys.stderr)
