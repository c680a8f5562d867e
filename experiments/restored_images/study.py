"""The protocol on restored images: photographs, degraded, restored at several strengths, scored and measured.

Every content is a file of its own under `contents/`; what is there and was made by the same settings is not made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import sys

import ml_collections
from rich.console import Console

from driqa_jax.data.open import open_source
from driqa_jax.data.splits import select
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.evaluation.estimates import rows_to_terminal, save_rows
from driqa_jax.evaluation.figures import save_figure
from driqa_jax.evaluation.pristine import STEP, photographs
from driqa_jax.inference.scorer import load
from driqa_jax.io import write_json
from driqa_jax.inference.provenance import describe
from experiments.restored_images import figures as figures
from experiments.restored_images import summary as summary
from experiments.restored_images.contents import METRICS, NONE, Contents, Variant
from experiments.restored_images.restorers import CLASSICAL, NETWORK, network

AGREEMENT = ("scores", "with", "ranked together", "SRCC", "KRCC")
PUNISHMENT = ("scores", "restorer", "best by", "punished", "change", "excess")


def run(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Carry it out, or go on with it; returns 0, or 1 where a photograph failed. Raises UserError."""
    _check(config)
    folder = pathlib.Path(workdir)
    try:
        (folder / "contents").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror or error})") from error
    photos, failed = _photographs(config)
    scorers = {model: load(model) for model in config.models}
    other = load(config.network) if config.network not in scorers else scorers[config.network]
    restorers = {**CLASSICAL, NETWORK: network(other.model, other.params)}
    restorers = {name: restorers[name] for name in config.restorers}
    contents = Contents(config.degradations, restorers, config.restorers, scorers, config.seed)
    key = _key(config, {**scorers, "network": other})

    rows = {}
    for number, (name, photo) in enumerate(photos.items()):
        try:
            rows[name] = _measured(folder, key, contents, photo, number, name)
        except ValueError as error:
            failed[name] = " ".join(str(error).split())
        print(f"{number + 1} of {len(photos)}: {name}", file=sys.stderr, flush=True)
    if not rows:
        raise UserError(f"{workdir}: no photograph could be measured; the first: {next(iter(failed.values()))}")
    _summarise(folder, config, rows, failed, {name: describe(scorer) for name, scorer in scorers.items()})
    _draw(folder, config, contents, photos, rows)
    for name, reason in failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _check(config) -> None:
    for name, severity in config.degradations:
        if name not in (NONE, *NAMES):
            raise UserError(f"config.degradations: {name!r} is neither '{NONE}' nor a type of the bank")
        if not 0 <= severity <= 1:
            raise UserError(f"config.degradations: the severity of {name} is {severity}; give one from 0 to 1")
    for name, strengths in config.restorers.items():
        if name not in (*CLASSICAL, NETWORK):
            raise UserError(f"config.restorers: {name!r} is none; there are {', '.join((*CLASSICAL, NETWORK))}")
        if len(strengths) < 2 or list(strengths) != sorted(set(strengths)) or strengths[0] <= 0:
            raise UserError(f"config.restorers.{name}: give at least two strengths above 0, rising; not {strengths}")
    if not config.models:
        raise UserError("config.models is empty; name at least one model to compare")
    if config.side % STEP:
        raise UserError(f"config.side is {config.side}; give a multiple of {STEP}, or 0")


def _photographs(config):
    data = config.data
    if not data.path:
        raise UserError("config.data.path is empty; give the folder of pristine photographs")
    try:
        source = open_source(data.kind, data.path, data.name or None)
        source = select(source, data.split, 0, data.min_mos or None)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    photos, failed = photographs(source, config.count, config.seed, data.halve, config.side or None)
    if not photos:
        raise UserError(f"{source.name}: no photograph is fit; the first: {next(iter(failed.values()))}")
    return photos, failed


def _key(config, scorers) -> str:
    """Of all that a content's file depends on, but for its photograph."""
    models = {name: scorer.sha256 for name, scorer in scorers.items()}
    settings = {name: list(strengths) for name, strengths in config.restorers.items()}
    said = json.dumps([models, settings, list(config.degradations), config.seed, list(METRICS)])
    return hashlib.sha256(said.encode()).hexdigest()


def _measured(folder, key, contents, photo, number, name):
    mark = hashlib.sha256(photo.tobytes()).hexdigest()
    file = folder / "contents" / f"{mark[:16]}.json"
    # The number draws the noise, so another choice of photographs makes other pictures.
    same = {"content": name, "photo": mark, "number": number, "settings": key}
    if file.exists():
        with contextlib.suppress(json.JSONDecodeError):  # a broken file is made anew
            kept = json.loads(file.read_text())
            if {**kept, "rows": None} == {**same, "rows": None}:
                return kept["rows"]
    rows = contents.rows(photo, number)
    write_json(file, {**same, "rows": rows})
    return rows


def _summarise(folder, config, rows, failed, described) -> None:
    found = [summary.Content.of(each) for each in rows.values()]
    # The metrics among themselves say how much agreement there is to be had.
    metrics = list(METRICS)
    pairs = [(model, metric) for model in config.models for metric in metrics]
    pairs += [(first, second) for i, second in enumerate(metrics) for first in metrics[i + 1 :]]
    agreed = {pair: summary.agreement(found, *pair) for pair in pairs}
    judged = {
        (judge, restorer, metric): summary.punishment(found, judge, metric, restorer)
        for metric in ("ssim", "gmsd")
        for judge in (*config.models, *metrics)
        if judge != metric
        for restorer in config.restorers
    }
    first = [
        [*pair, which, *(figures[name][which] for name in summary.RANKS)]
        for pair, figures in agreed.items()
        for which in figures["srcc"]
    ]
    second = [[*place, *figures.values()] for place, figures in judged.items()]
    for name, heads, table in (("agreement", AGREEMENT, first), ("punishment", PUNISHMENT, second)):
        for kind in ("md", "csv", "tex"):
            save_rows(folder / f"{name}.{kind}", heads, table)
        Console(width=None if sys.stdout.isatty() else 160).print(
            rows_to_terminal(f"{name}, {len(found)} contents", heads, table)
        )
    values = {
        "contents": list(rows),
        "failed": failed,
        "agreement": [dict(zip(AGREEMENT, map(_plain, row), strict=True)) for row in first],
        "punishment": [dict(zip(PUNISHMENT, map(_plain, row), strict=True)) for row in second],
        "config": json.loads(config.to_json()),
        "provenance": described,
    }
    write_json(folder / "restored.json", values)


def _plain(cell):
    return dataclasses.asdict(cell) if dataclasses.is_dataclass(cell) else cell


def _draw(folder, config, contents, photos, rows) -> None:
    found, names, order = [summary.Content.of(each) for each in rows.values()], list(rows), list(photos)
    for i, model in enumerate(config.models):
        ending = f"_{i}" if len(config.models) > 1 else ""
        save_figure(figures.curves_figure(found, model), folder / f"curves{ending}.png")
        lines = []
        for one in summary.disagreements(found, model, config.pictures):
            name = names[one.content]
            photo, number = photos[name], order.index(name)
            line = [("the photograph", photo)]
            for title, place in (("SSIM, GMSD prefer", one.first), ("the score prefers", one.second)):
                row = rows[name][place]
                variant = Variant(row["degradation"], row["restorer"], row["strength"])
                said = f"{row['restorer'].replace('_', ' ') or 'not restored'} {row['strength'] or ''}".strip()
                caption = f"{title}: {said}\nscore {row['scores'][model]:.1f}, SSIM {row['metrics']['ssim']:.3f}"
                line.append((f"{variant.degradation}\n{caption}", contents.picture(photo, number, variant)))
            lines.append(line)
        if lines:
            save_figure(figures.pairs_figure(lines), folder / f"disagreements{ending}.png")
