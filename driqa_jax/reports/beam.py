"""Scoring on Apache Beam (extra `beam`): file names in, rows out, on any runner.

    pipeline | beam.Create(["gs://photos/a.jpg"]) | ScoreFiles(ScorerHandler("lite")) -> scored, failed

Beam's file systems read the files; the scorer decodes them in the worker that scores them, so no decoded image is
sent between workers, and scores equal those of `driqa score`. Paths are bytes (`os.fsencode`) between stages, because
a file name need not be UTF-8 and Beam transmits only valid text.
"""

from __future__ import annotations  # Beam would check a pipeline against evaluated annotations

import dataclasses
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference

from driqa_jax.inference.scorer import Result, Scorer, load
from driqa_jax.io import csv_line
from driqa_jax.reports.meaning import Meaning
from driqa_jax.reports.score_file import WRITERS

COUNTERS = "driqa"  # the namespace of the counters `scored` and `failed`
_BYTES = 2_000_000  # a batch holds encoded files in memory, so each 2 MB count as one more image

EncodedImage = tuple[bytes, bytes]  # path, content of the file


class ScorerHandler(ModelHandler[EncodedImage, Result, Scorer]):
    """A scorer for `RunInference`, loaded once per worker process and shared by its threads.

    Args:
      model: a bundled name, or a .safetensors file or workdir that every worker can read.
      gather: most images per call of the scorer; fewer if their files are large.
      options: options of `driqa_jax.load`: batch_size, workers, max_pixels, ...
    """

    def __init__(self, model: str = "lite", gather: int = 64, **options: Any):
        super().__init__(min_batch_size=1, max_batch_size=gather, element_size_fn=_weight)
        self._model, self._options = model, options

    def load_model(self) -> Scorer:
        """Load the scorer; Beam calls this in each worker process."""
        return load(self._model, **self._options)

    def run_inference(
        self, batch: Sequence[EncodedImage], model: Scorer, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Result]:
        """A result per image, its path as bytes; a failed image has its reason in `error`."""
        results = model.stream([data for _, data in batch], [os.fsdecode(path) for path, _ in batch])
        return [dataclasses.replace(result, path=os.fsencode(result.path)) for result in results]

    def get_num_bytes(self, batch: Sequence[EncodedImage]) -> int:
        """Bytes of the encoded images."""
        return sum(len(data) for _, data in batch)

    def get_metrics_namespace(self) -> str:
        """The namespace of Beam's own metrics (batches, latencies)."""
        return "driqa_inference"


class ScoreFiles(beam.PTransform):
    """Maps paths (bytes or text) to two collections of `Result` with bytes paths: `scored` and `failed`.

    A file that cannot be read, decoded or scored becomes a failed row with its reason.
    """

    def __init__(self, handler: ScorerHandler):
        super().__init__()
        self._handler = handler

    def expand(self, paths):
        """Returns (scored, failed)."""
        # Without a reshuffle, the worker that listed a folder would also read all of its files.
        read = paths | beam.Reshuffle() | beam.ParDo(_Read()).with_outputs("failed", main="pictures")
        done = read.pictures | RunInference(self._handler) | beam.ParDo(_Part()).with_outputs("failed", main="scored")
        return done.scored, (read.failed, done.failed) | beam.Flatten()


def matched(pattern: str) -> Iterator[bytes]:
    """Paths, as bytes, that match a pattern of Beam's file systems (`*` within a folder, `**` across folders)."""
    (match,) = FileSystems.match([pattern])
    yield from (os.fsencode(file.path) for file in match.metadata_list)


def row_of(result: Result, suffix: str) -> bytes:
    """The row of `driqa score` for a result of `ScoreFiles`, without the newline."""
    file = io.StringIO()
    row = Meaning().annotate(dataclasses.replace(result, path=os.fsdecode(result.path)))
    WRITERS[suffix](file, header=False).write(row)
    return file.getvalue().removesuffix("\n").encode("utf-8", "surrogateescape")


def failed_row_of(result: Result, suffix: str) -> bytes:
    """Path and error of a result of `ScoreFiles` as CSV or JSON, without the newline."""
    path = os.fsdecode(result.path)
    if suffix == ".jsonl":
        return json.dumps({"path": path, "error": result.error}).encode()
    return csv_line([path, result.error]).removesuffix("\n").encode("utf-8", "surrogateescape")


def _weight(image: EncodedImage) -> int:
    return 1 + len(image[1]) // _BYTES


class _Read(beam.DoFn):
    def process(self, path):
        path = os.fsencode(path)
        try:
            # Uncompressed: an image named .gz or .bz2 is an error to report, not an archive to unpack.
            with FileSystems.open(os.fsdecode(path), compression_type=CompressionTypes.UNCOMPRESSED) as file:
                data = file.read()
        except Exception as error:  # each file system raises its own types
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
