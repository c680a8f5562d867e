#!/usr/bin/env python3
"""Score pictures on Apache Beam: on the cores of one machine, or on a cluster.

    pip install 'driqa_jax[beam]'
    launch/score_beam.py --input 'photos/**.jpg' --output scores.csv
    launch/score_beam.py --paths-from list.txt --output scores.jsonl \\
        --direct_running_mode=multi_processing --direct_num_workers=4

Writes scores-00000-of-00004.csv, ... with the rows of `driqa score` in any order, scores.failed-....csv with path,error
of the images that failed, and scores.meta.json with versions and settings. Each worker process loads the model once.

Flags not listed below are Beam's own. Tested here: one process, and several (`multi_processing`), on one machine.
Beam spawns these processes; it does not fork, which JAX would not survive. One process already uses every core.
An up-to-date ONNX file beside the weights computes the scores if this machine has no accelerator; see --runtime.
Without --runner, Beam's FnApiRunner in Python runs; its DirectRunner would fetch another runner from the network.

Not tested here; these lines follow Beam's documentation:

  Dataflow   pip install 'apache-beam[gcp]'; a container image made FROM apache/beam_python3.11_sdk with this package
             installed, then: launch/score_beam.py --input 'gs://BUCKET/photos/**.jpg' --output gs://BUCKET/scores.csv
             --runner=DataflowRunner --project=P --region=R --temp_location=gs://BUCKET/tmp
             --sdk_container_image=IMAGE --experiments=use_runner_v2
  Flink      --runner=FlinkRunner --flink_master=HOST:8081 --environment_type=DOCKER --environment_config=IMAGE
  Spark      --runner=SparkRunner --spark_master_url=spark://HOST:7077 --environment_type=DOCKER
             --environment_config=IMAGE

On a cluster, input and output must be on a shared file system (gs://, s3://, hdfs://), and so must --model unless it is
a bundled name, because every worker reads it. The ONNX file is beside it.

exit codes: 0 all scored, 1 some failed, 2 nothing ran
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from driqa_jax.cli.options import add_model_options, loading, positive
from driqa_jax.errors import UserError


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our arguments, and those that are Beam's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="PATTERN",
        help="files; * within a folder, ** across; repeatable",
    )
    parser.add_argument(
        "--paths-from", action="append", default=[], metavar="FILE", help="a text file, one path per line; repeatable"
    )
    parser.add_argument("--output", "-o", required=True, metavar="F.csv|F.jsonl", help="shards are named after it")
    parser.add_argument(
        "--shards", type=positive, default=0, metavar="N", help="files to write (default: the runner's)"
    )
    add_model_options(parser)
    return parser.parse_known_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the pipeline and wait for it; returns the exit code."""
    args, beams = parse(argv)
    try:
        return run(args, beams)
    except UserError as error:
        print(f"score_beam: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace, beams: list[str]) -> int:
    """`beams`: arguments for Beam."""
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    except ImportError:
        raise UserError("Apache Beam is not installed; pip install 'driqa_jax[beam]'") from None
    from driqa_jax.inference.scorer import load
    from driqa_jax.reports import beam as scoring
    from driqa_jax.reports.score_file import WRITERS

    if os.path.splitext(args.output)[1] not in WRITERS:
        raise UserError(f"{args.output}: the extension must be one of {', '.join(WRITERS)}")
    if not args.input and not args.paths_from:
        raise UserError("nothing to score; give --input PATTERN or --paths-from FILE")
    for pattern in (*args.input, *args.paths_from):
        check_pattern(pattern)
    about = load(args.model, **loading(args))  # so that a wrong model fails before any worker starts
    how = {**loading(args), "runtime": about.executor.name}  # the same in all workers
    options = PipelineOptions(beams)
    runner = options.view_as(StandardOptions).runner
    local = runner is None or runner.lower() in ("direct", "directrunner")
    pipeline = beam.Pipeline("FnApiRunner" if local else runner, options=options)
    globs = pipeline | "patterns" >> beam.Create(args.input) | "match" >> beam.FlatMap(scoring.matched)
    lists = (
        pipeline
        | "lists" >> beam.Create(args.paths_from)
        | "read lists" >> beam.io.ReadAllFromText(coder=beam.coders.BytesCoder())
    )
    named = lists | "strip" >> beam.Map(bytes.strip) | "not empty" >> beam.Filter(bool)
    scored, failed = (globs, named) | beam.Flatten() | scoring.ScoreFiles(scoring.ScorerHandler(args.model, **how))
    write_rows(scored, failed, args.output, args.shards)
    done = pipeline.run()
    done.wait_until_finish()
    counts = {name: _counted(done, name) for name in ("scored", "failed")}
    _describe(args.output, about, counts)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), file=sys.stderr)
    return 1 if counts["failed"] else 0


def check_pattern(pattern: str) -> None:
    """Raises UserError, before any worker starts, for a folder or a pattern without a match."""
    from apache_beam.io.filesystems import FileSystems

    if os.path.isdir(pattern):
        raise UserError(f"{pattern}: is a folder; give a pattern, for example '{os.path.join(pattern, '**.jpg')}'")
    try:
        (match,) = FileSystems.match([pattern], limits=[1])
    except Exception as error:  # each file system raises its own types
        raise UserError(f"{pattern}: cannot be listed ({error})") from None
    if not match.metadata_list:
        raise UserError(f"{pattern}: matches nothing")


def write_rows(scored, failed, output: str, shards: int) -> None:
    """Write shards with the rows of `driqa score`, `scores-00000-of-00004.csv`, and `scores.failed-...` (path, error).

    Args:
      scored, failed: the collections of `ScoreFiles`.
      output: .csv or .jsonl on any of Beam's file systems.
      shards: number of files; 0 leaves it to the runner.
    """
    import apache_beam as beam
    from apache_beam.io import WriteToText

    from driqa_jax.reports.beam import failed_row_of, row_of
    from driqa_jax.reports.score_file import COLUMNS

    base, suffix = os.path.splitext(output)
    header, failed_header = (",".join(COLUMNS), "path,error") if suffix == ".csv" else (None, None)
    write = WriteToText(base, suffix, num_shards=shards, header=header)
    scored | "scored rows" >> beam.Map(row_of, suffix) | "write scores" >> write
    fewer = min(shards, 1)
    write = WriteToText(f"{base}.failed", suffix, num_shards=fewer, header=failed_header, skip_if_empty=True)
    failed | "failed rows" >> beam.Map(failed_row_of, suffix) | "write failed" >> write


def _counted(done, name: str) -> int:
    from apache_beam.metrics import MetricsFilter

    from driqa_jax.reports.beam import COUNTERS

    found = done.metrics().query(MetricsFilter().with_namespace(COUNTERS).with_name(name))["counters"]
    return sum(counter.result for counter in found)


def _describe(output: str, scorer, counts: dict[str, int]) -> None:
    """`scores.meta.json`: which model, which view, which versions; the workers' devices are not known here."""
    from apache_beam.io.filesystems import FileSystems

    from driqa_jax.inference.provenance import describe

    made = {key: value for key, value in describe(scorer).items() if key != "device"}
    base = os.path.splitext(output)[0]
    with FileSystems.create(f"{base}.meta.json") as file:
        file.write(json.dumps({**counts, **made}, indent=2).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
