"""The short model card: data, terms, results with intervals, known failures."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from driqa_jax.checkpoints.load import load
from driqa_jax.errors import UserError
from driqa_jax.io import file_sha256
from driqa_jax.reports.reference import Reference, reference_path


def card_path(weights: str | os.PathLike) -> pathlib.Path:
    """The card beside `NAME.safetensors`: `NAME.card.json`."""
    return pathlib.Path(weights).with_suffix(".card.json")


def card_lines(name: str) -> Iterator[str]:
    """The card of a model (bundled name, file or workdir) as lines of text.

    Cards and reference distributions stand beside the file of the weights; one that was made for other weights is left
    out. Raises UserError if the model cannot be loaded or one of them is damaged.
    """
    _, metadata, file = load(name)
    sha256 = file_sha256(file) if file else None
    card = _card(file, sha256)
    yield f"model {name}: variant {metadata.get('variant', 'unknown')}"
    if sha256:
        yield f"sha256 {sha256}"
    yield f"terms: {metadata.get('licence', 'unknown')}"
    yield from _data(card, metadata)
    yield from _results(card)
    yield _interval(card, metadata)
    yield _reference(file, sha256)
    for head, key in (("known failures", "failures"), ("not for", "not_for")):
        if card.get(key):
            yield f"{head}:"
            yield from (f"  - {line}" for line in card[key])


def _card(file: pathlib.Path | None, sha256: str | None) -> Mapping[str, Any]:
    if file is None or not card_path(file).is_file():
        return {}
    try:
        card = json.loads(card_path(file).read_text())
        return card if card["sha256"] == sha256 else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{card_path(file)}: cannot be read as a model card ({error})") from None


def _data(card: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[str]:
    provenance = metadata.get("provenance") or {}
    trained = provenance.get("run", {}).get("data", {})
    names = [*trained.get("sources", ())] or [trained.get("name") or "not recorded"]
    yield "data:"
    yield from (f"  - {line}" for line in card.get("data") or names)
    if "step" in provenance:
        yield f"  - last training: {provenance['step']:,} steps, {provenance.get('examples', 0):,} images seen"
    if own := provenance.get("residual"):
        yield f"  - fitted to {own['ratings']:,} ratings of {own['data']} by `driqa fit`"


def _results(card: Mapping[str, Any]) -> Iterator[str]:
    if not card.get("results"):
        yield "results: none are stored with these weights; measure them with `driqa evaluate`"
        return
    yield f"results on {card['set']}, with 95 % intervals:"
    for row in card["results"]:
        srcc, plcc = ("{:.3f} [{:.3f}, {:.3f}]".format(*row[key]) for key in ("srcc", "plcc"))
        yield f"  - {row['images']} ({row['n']:,}): SRCC {srcc}, PLCC {plcc}; {row['note']}"


def _interval(card: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    if not metadata.get("interval"):
        return "uncertainty: none; `driqa export` fits it"
    held = f"; on the test split it contains {card['coverage']['held']:.1%}" if card.get("coverage") else ""
    return f"uncertainty: aims to contain {metadata['interval']['level']:.0%} of human scores{held}"


def _reference(file: pathlib.Path | None, sha256: str | None) -> str:
    if file is not None and reference_path(file).is_file():
        made = Reference.load(reference_path(file))
        if made.sha256 == sha256:
            known = f"{made.count:,} photos, {made.photos}; terms: {made.licence}; {made.date}"
            return f"reference for --percentile: {known}"
    return "reference for --percentile: none; give --reference SCORES.csv"
