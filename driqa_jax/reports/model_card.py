"""The short model card: data, terms, results with intervals, known failures."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from driqa_jax.errors import UserError
from driqa_jax.reports.reference import Reference, reference_path

if TYPE_CHECKING:
    from driqa_jax.checkpoints.load import LoadedModel

_UNMEASURED = "none are stored with these weights; measure them with `driqa evaluate`"


def card_path(weights: str | os.PathLike) -> pathlib.Path:
    """The card beside `NAME.safetensors`: `NAME.card.json`."""
    return pathlib.Path(weights).with_suffix(".card.json")


def card_lines(name: str, loaded: LoadedModel, sha256: str | None) -> Iterator[str]:
    """The card as lines of text.

    Args:
      name: of the model.
      loaded: its metadata, and its file if it has one; cards and reference distributions stand beside the file.
      sha256: of the file.

    Raises UserError if a card or a reference is damaged. One that was made for other weights is left out.
    """
    metadata = loaded.metadata
    card = _card(loaded.file, sha256)
    yield f"model {name}: variant {metadata.get('variant', 'unknown')}"
    if sha256:
        yield f"sha256 {sha256}"
    yield f"terms: {metadata.get('licence', 'unknown')}"
    yield from _data(card, metadata)
    yield from _results(card)
    yield from _interval(card, metadata)
    yield _reference(loaded.file, sha256)
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
    yield "data:"
    run = provenance.get("run") or {}
    named = (run.get("data") or {}).get("name") or (run.get("data") or {}).get("path")
    yield from (f"  - {line}" for line in card.get("data") or [named or "not recorded"])
    if "step" in provenance:
        yield f"  - last training: {provenance['step']:,} steps, {provenance.get('examples', 0):,} images seen"


def _results(card: Mapping[str, Any]) -> Iterator[str]:
    if not card.get("results"):
        yield f"results: {_UNMEASURED}"
        return
    yield f"results on {card['set']}, with 95 % intervals:"
    for row in card["results"]:
        figures = ", ".join(
            f"{key.upper()} {row[key][0]:.3f} [{row[key][1]:.3f}, {row[key][2]:.3f}]" for key in ("srcc", "plcc")
        )
        yield f"  - {row['images']} ({row['n']:,}): {figures}; {row['note']}"


def _interval(card: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[str]:
    interval = metadata.get("interval")
    if not interval:
        yield "uncertainty: none; `driqa export` fits it"
        return
    held = f"; on the test split it contains {card['coverage']['held']:.1%}" if card.get("coverage") else ""
    yield f"uncertainty: aims to contain {interval['level']:.0%} of human scores{held}"


def _reference(file: pathlib.Path | None, sha256: str | None) -> str:
    if file is not None and reference_path(file).is_file():
        made = Reference.load(reference_path(file))
        if made.sha256 == sha256:
            return (
                f"reference for --percentile: {made.count:,} photos, {made.photos}; terms: {made.licence}; {made.date}"
            )
    return "reference for --percentile: none; give --reference SCORES.csv"
