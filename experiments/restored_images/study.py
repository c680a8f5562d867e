"""The study of restored images: degrade photographs, restore them at several strengths, score and measure the results.

Each content has a file under `contents/`; a file of the same settings is reused.
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
from driqa_jax.data.pipeline import STEP, photographs
from driqa_jax.data.splits import select
from driqa_jax.degradations import NAMES
from driqa_jax.errors import UserError
from driqa_jax.evaluation.figures import save_figure
from driqa_jax.evaluation.tables import Table, save_table, to_terminal
from driqa_jax.inference.provenance import describe
from driqa_jax.inference.scorer import load
from driqa_jax.io import make_folder, write_json
from driqa_jax.progress import Progress
from experiments.restored_images import figures, summary
from experiments.restored_images.contents import METRICS, NONE, Contents, Variant
from experiments.restored_images.restorers import CLASSICAL, NETWORK, network

AGREEMENT = ("scores", "with", "ranked together", "SRCC", "KRCC")
PUNISHMENT = ("scores", "restorer", "best by", "punished", "change", "excess")


def run(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Run or resume the study. Returns 0, or 1 if a photograph failed. Raises UserError for a bad configuration."""
    _check(config)
    folder = pathlib.Path(workdir)
    make_folder(folder / "contents")
    photos, failed = _photographs(config)
    scorers = {model: load(model) for model in config.models}
    other = load(config.network) if config.network not in scorers else scorers[config.network]
    restorers = {**CLASSICAL, NETWORK: network(other.model, other.params)}
    restorers = {name: restorers[name] for name in config.restorers}
    contents = Contents(config.degradations, restorers, config.restorers, scorers, config.seed)
    key = _key(config, {**scorers, "network": other})

    rows = {}
    with Progress() as progress:
        for number, (name, photo) in enumerate(photos.items()):
            try:
                rows[name] = _measured(folder, key, contents, photo, number, name)
            except ValueError as error:
                failed[name] = " ".join(str(error).split())
            progress("measuring photographs", number + 1, len(photos))
    if not rows:
        raise UserError(f"{workdir}: no photograph could be measured; the first: {next(iter(failed.values()))}")
    _summarize(folder, config, rows, failed, {name: describe(scorer) for name, scorer in scorers.items()})
    _draw(folder, config, contents, photos, rows)
    for name, reason in failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _check(config) -> None:
    for name, severity in config.degradations:
        if name not in (NONE, *NAMES):
            raise UserError(f"config.degradations: {name!r} is neither '{NONE}' nor a type of degradation")
        if not 0 <= severity <= 1:
            raise UserError(f"config.degradations: the severity of {name} is {severity}; it must be from 0 to 1")
    for name, strengths in config.restorers.items():
        if name not in (*CLASSICAL, NETWORK):
            known = ", ".join((*CLASSICAL, NETWORK))
            raise UserError(f"config.restorers must be from {known}, got {name!r}")
        if len(strengths) < 2 or list(strengths) != sorted(set(strengths)) or strengths[0] <= 0:
            raise UserError(
                f"config.restorers.{name}: give at least two strengths, increasing from above 0, got {strengths}"
            )
    if not config.models:
        raise UserError("config.models is empty; give at least one model")
    if config.side % STEP:
        raise UserError(f"config.side is {config.side}; it must be 0 or a multiple of {STEP}")


def _photographs(config):
    data = config.data
    if not data.path:
        raise UserError("config.data.path is empty; set it to the folder of pristine photographs")
    try:
        source = open_source(data.kind, data.path, data.name or None)
        source = select(source, data.split, 0, data.min_mos or None)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    photos, failed = photographs(source, config.count, config.seed, data.halve, config.side or None)
    if not photos:
        raise UserError(f"{source.name}: no photograph is usable; the first: {next(iter(failed.values()))}")
    return photos, failed


def _key(config, scorers) -> str:
    """Digest of everything that a content's file depends on, except its photograph."""
    models = {name: scorer.sha256 for name, scorer in scorers.items()}
    settings = {name: list(strengths) for name, strengths in config.restorers.items()}
    text = json.dumps([models, settings, list(config.degradations), config.seed, list(METRICS)])
    return hashlib.sha256(text.encode()).hexdigest()


def _measured(folder, key, contents, photo, number, name):
    mark = hashlib.sha256(photo.tobytes()).hexdigest()
    file = folder / "contents" / f"{mark[:16]}.json"
    # The number seeds the noise, so another selection of photographs gives other images.
    same = {"content": name, "photo": mark, "number": number, "settings": key}
    if file.exists():
        with contextlib.suppress(json.JSONDecodeError):  # replace a broken file
            kept = json.loads(file.read_text())
            if {**kept, "rows": None} == {**same, "rows": None}:
                return kept["rows"]
    rows = contents.rows(photo, number)
    write_json(file, {**same, "rows": rows})
    return rows


def _summarize(folder, config, rows, failed, described) -> None:
    measured = [summary.Content.of(each) for each in rows.values()]
    # The agreement among metrics is the reference for that of a score.
    metrics = list(METRICS)
    pairs = [(model, metric) for model in config.models for metric in metrics]
    pairs += [(first, second) for i, second in enumerate(metrics) for first in metrics[i + 1 :]]
    agreed = {pair: summary.agreement(measured, *pair) for pair in pairs}
    judged = {
        (judge, restorer, metric): summary.punishment(measured, judge, metric, restorer)
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
    for name, heads, table_rows in (("agreement", AGREEMENT, first), ("punishment", PUNISHMENT, second)):
        table = Table(f"{name}, {len(measured)} contents", heads, table_rows)
        for kind in ("md", "csv", "tex"):
            save_table(table, folder / f"{name}.{kind}")
        Console(width=None if sys.stdout.isatty() else 160).print(to_terminal(table))
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
    measured, names, order = [summary.Content.of(each) for each in rows.values()], list(rows), list(photos)
    for i, model in enumerate(config.models):
        ending = f"_{i}" if len(config.models) > 1 else ""
        save_figure(figures.curves_figure(measured, model), folder / f"curves{ending}.png")
        lines = []
        for one in summary.disagreements(measured, model, config.pictures):
            name = names[one.content]
            photo, number = photos[name], order.index(name)
            line = [("the photograph", photo)]
            for title, place in (("SSIM, GMSD prefer", one.first), ("the score prefers", one.second)):
                row = rows[name][place]
                variant = Variant(row["degradation"], row["restorer"], row["strength"])
                restored = f"{row['restorer'].replace('_', ' ') or 'not restored'} {row['strength'] or ''}".strip()
                caption = f"{title}: {restored}\nscore {row['scores'][model]:.1f}, SSIM {row['metrics']['ssim']:.3f}"
                line.append((f"{variant.degradation}\n{caption}", contents.image(photo, number, variant)))
            lines.append(line)
        if lines:
            save_figure(figures.pairs_figure(lines), folder / f"disagreements{ending}.png")
