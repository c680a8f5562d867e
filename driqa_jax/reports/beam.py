"""Scoring on Apache Beam (extra `beam`): file names in, rows out, on whatever engine Beam runs on.

    pipeline | beam.Create(["gs://photos/a.jpg"]) | ScoreFiles(ScorerHandler("lite")) -> scored, failed

The pictures' bytes are read through Beam's file systems and decoded by the scorer, on its threads, in the worker that
scores them: no decoded picture is ever sent anywhere, and a score is that of `driqa score`. Between stages a path is
bytes (`os.fsencode`): a file's name need not be text, and Beam sends none that is not.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io import WriteToText
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference

from driqa_jax.errors import UserError
from driqa_jax.inference.scorer import Result, Scorer, load
from driqa_jax.reports.score_file import CSVRows, JSONLRows

COUNTERS = "driqa"  # the namespace of the counters `scored` and `failed`
SUFFIXES = (".csv", ".jsonl")
_BYTES = 2_000_000  # a file of so many bytes counts as one picture more of a batch: its bytes lie in memory
_ROWS = {".csv": CSVRows, ".jsonl": JSONLRows}

Picture = tuple[bytes, bytes]  # its path, and the file's bytes


class ScorerHandler(ModelHandler[Picture, Result, Scorer]):
    """A scorer for `RunInference`, loaded once a worker process, shared by its threads: (path, bytes) -> `Result`.

    Args:
      model: a bundled name, or a path that every worker can read, of a .safetensors file or a workdir.
      gather: at most so many pictures are handed to the scorer at once, fewer where their files are large.
      options: of `driqa_jax.load`: batch_size, workers, max_pixels, ...
    """

    def __init__(self, model: str = "lite", gather: int = 64, **options: Any):
        super().__init__(min_batch_size=1, max_batch_size=gather, element_size_fn=_weight)
        self._model, self._options = model, options

    def load_model(self) -> Scorer:
        """The scorer; called in each worker process."""
        return load(self._model, **self._options)

    def run_inference(
        self, batch: Sequence[Picture], model: Scorer, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Result]:
        """A result for every picture, its path as bytes; one that cannot be scored has its reason in it."""
        results = model.stream([data for _, data in batch], [os.fsdecode(path) for path, _ in batch])
        return [dataclasses.replace(result, path=os.fsencode(result.path)) for result in results]

    def get_num_bytes(self, batch: Sequence[Picture]) -> int:
        """Bytes of the encoded pictures."""
        return sum(len(data) for _, data in batch)

    def get_metrics_namespace(self) -> str:
        """Where Beam's own figures (batches, latencies) stand."""
        return "driqa_inference"


class ScoreFiles(beam.PTransform):
    """Paths, as bytes or text, to two collections of `Result`, whose paths are bytes: `scored` and `failed`.

    What cannot be read, decoded or scored is a failed row with its reason; the rest goes on.
    """

    def __init__(self, handler: ScorerHandler):
        super().__init__()
        self._handler = handler

    def expand(self, paths):
        """A tuple: scored, failed."""
        # Without it a folder of a million files would be read by the one worker that listed it.
        read = paths | beam.Reshuffle() | beam.ParDo(_Read()).with_outputs("failed", main="pictures")
        done = read.pictures | RunInference(self._handler) | beam.ParDo(_Part()).with_outputs("failed", main="scored")
        return done.scored, (read.failed, done.failed) | beam.Flatten()


def matched(pattern: str) -> Iterator[bytes]:
    """Paths that a pattern of Beam's file systems matches (`*` within a folder, `**` across), as bytes."""
    (found,) = FileSystems.match([pattern])
    yield from (os.fsencode(file.path) for file in found.metadata_list)


def check_pattern(pattern: str) -> None:
    """Raises UserError, before any worker starts, for a folder and for a pattern that matches nothing."""
    if os.path.isdir(pattern):
        raise UserError(f"{pattern}: is a folder; say which files, for example '{os.path.join(pattern, '**.jpg')}'")
    try:
        (found,) = FileSystems.match([pattern], limits=[1])
    except Exception as error:  # each file system has its own
        raise UserError(f"{pattern}: cannot be listed ({error})") from None
    if not found.metadata_list:
        raise UserError(f"{pattern}: matches nothing")


def write_rows(scored, failed, output: str, shards: int = 0) -> None:
    """Shards of the rows of `driqa score`, `scores-00000-of-00004.csv`, ..., and `scores.failed-...` of path,error.

    `output`: .csv or .jsonl, on any of Beam's file systems. `shards`: files to write; 0: as many as the runner likes.
    """
    base, suffix = os.path.splitext(output)
    header = {".csv": _lines(Result("", None), suffix)[0], ".jsonl": None}[suffix]
    (
        scored
        | "scored rows" >> beam.Map(row_of, suffix)
        | "write scores" >> WriteToText(base, suffix, num_shards=shards, header=header)
    )
    header = {".csv": "path,error", ".jsonl": None}[suffix]
    (
        failed
        | "failed rows" >> beam.Map(failed_row_of, suffix)
        | "write failed"
        >> WriteToText(f"{base}.failed", suffix, num_shards=min(shards, 1), header=header, skip_if_empty=True)
    )


def row_of(result: Result, suffix: str) -> bytes:
    """The row of `driqa score` for a result of `ScoreFiles`, without its line's end."""
    return _lines(result, suffix)[1].encode("utf-8", "surrogateescape")


def failed_row_of(result: Result, suffix: str) -> bytes:
    """path and error of a result of `ScoreFiles`, as CSV or JSON, without the line's end."""
    path = os.fsdecode(result.path)
    if suffix == ".jsonl":
        return json.dumps({"path": path, "error": result.error}).encode()
    file = io.StringIO()
    csv.writer(file, lineterminator="").writerow([path, result.error])
    return file.getvalue().encode("utf-8", "surrogateescape")


def _lines(result: Result, suffix: str) -> tuple[str, str]:
    """Header and row, by the code that writes the rows of `driqa score`."""
    file = io.StringIO()
    rows = _ROWS[suffix](file)
    header = file.getvalue()
    rows.write(dataclasses.replace(result, path=os.fsdecode(result.path)))
    return header.removesuffix("\n"), file.getvalue().removeprefix(header).removesuffix("\n")


def _weight(picture: Picture) -> int:
    return 1 + len(picture[1]) // _BYTES


class _Read(beam.DoFn):
    def process(self, path):
        path = os.fsencode(path)
        try:
            # As it is: a picture's name that ends in .gz or .bz2 is a mistake to report, not a file to unpack.
            with FileSystems.open(os.fsdecode(path), compression_type=CompressionTypes.UNCOMPRESSED) as file:
                data = file.read()
        except Exception as error:  # each file system has its own
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            yield beam.pvalue.TaggedOutput("failed", _failed(Result(path, None, " ".join(reason.split()))))
            return
        yield path, data


class _Part(beam.DoFn):
    def process(self, result):
        if result.error is not None:
            yield beam.pvalue.TaggedOutput("failed", _failed(result))
            return
        Metrics.counter(COUNTERS, "scored").inc()
        yield result


def _failed(result: Result) -> Result:
    Metrics.counter(COUNTERS, "failed").inc()
    return result
