"""Self-contained HTML pages: pictures inside, nothing fetched, whatever a file is called."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from driqa_jax.inference.labels import STANDS_OUT
from driqa_jax.reports.colormap import colour_stops, encoded, fitted, overlay

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation

_QUALITY = 80
_TOLD = ("model", "variant", "sha256", "effort", "device", "versions")
# Moves the divider; without scripts it stays in the middle.
_SCRIPT = """
document.addEventListener("input", (event) => {
  if (event.target.matches(".compare input"))
    event.target.parentNode.style.setProperty("--at", event.target.value + "%");
});
"""


def page(template: str, provenance: Mapping[str, Any], **values: Any) -> bytes:
    """A page from `driqa_jax/inference/templates`, UTF-8; every value is escaped.

    `provenance`: as `driqa_jax.inference.provenance.describe` gives it.
    """
    # Should a name ever escape the escaping, the browser itself still runs and loads nothing but what is meant.
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    shared = {"policy": policy, "script": _SCRIPT, "stops": colour_stops(), "provenance": _rows(provenance)}
    return _environment().get_template(template).render(**shared, **values).encode()


def photo_values(explanation: Explanation, side: int, map_side: int, threshold: float = STANDS_OUT) -> dict[str, Any]:
    """What the templates show of one photo; pictures as WebP, at most `side` and `map_side` pixels a side."""
    height, width = explanation.size
    shown = explanation.picture.shape
    reduced = f", restored at {shown[1]} × {shown[0]}" if explanation.reduced else ""
    restored = explanation.restored
    return {
        **name_values(explanation.name),
        "score": explanation.score,
        "facts": f"{width} × {height} pixels{reduced}",
        "before": _inline(explanation.picture, side),
        "after": None if restored is None else _inline(restored, side),
        "map": _inline(overlay(explanation), map_side),
        "lowest": round(float(explanation.quality_map.min()), 1),
        "highest": round(float(explanation.quality_map.max()), 1),
        "named": explanation.named(threshold),
    }


def name_values(name: str) -> dict[str, str]:
    """A file's path, its name and its folder, as text."""
    path = printable(name)
    folder, last = os.path.split(path)
    return {"path": path, "name": last or path, "folder": folder}


def printable(name: str) -> str:
    """A file's name as text that UTF-8 can hold; it need not have been any."""
    return os.fspath(name).encode(errors="replace").decode()


def _inline(picture: np.ndarray, side: int) -> dict[str, Any]:
    small = fitted(picture, side)
    data = base64.b64encode(encoded(small, "webp", _QUALITY)).decode()
    return {"uri": f"data:image/webp;base64,{data}", "width": small.shape[1], "height": small.shape[0]}


def _rows(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and value of what a reader may ask for; what is nested, on one line."""

    def said(value):
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {said(one)}" for key, one in value.items())
        return printable(str(value))

    return [(key, said(provenance[key])) for key in _TOLD if key in provenance]


@functools.cache
def _environment():
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("driqa_jax.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
