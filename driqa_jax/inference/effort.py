"""View rules per effort, derived from the rule that the model was trained with."""

import dataclasses
from typing import NamedTuple

from driqa_jax.data.views import ViewRule

EFFORTS = ("fast", "default", "accurate")
ACCURATE_TILES = 9


class Look(NamedTuple):
    """A view rule, and whether predictions are averaged over the image and its mirror image."""

    rule: ViewRule
    mirror: bool = False


def look(rule: ViewRule, effort: str) -> Look:
    """The view rule of an effort.

    - `default`: the model's rule.
    - `fast`: one tile, in the middle. On photos, tiles agree; a smaller whole image would cost more accuracy.
    - `accurate`: nine tiles, averaged with the mirror image.

    Each adds 4:3 canvases, which change no score and save a fifth of the work on 4:3 images. Raises ValueError for
    another effort.
    """
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(EFFORTS)}, got {effort!r}")
    if effort == "fast":
        return Look(_with_4_3(dataclasses.replace(rule, tiles=1)))
    if effort == "accurate":
        # A crop has one tile by definition.
        tiles = rule.tiles if rule.kind == "crop" else max(rule.tiles, ACCURATE_TILES)
        return Look(_with_4_3(dataclasses.replace(rule, tiles=tiles)), mirror=True)
    return Look(_with_4_3(rule))


def _with_4_3(rule: ViewRule) -> ViewRule:
    height, width = rule.size_in(3 * rule.long, 4 * rule.long)
    more = [canvas for canvas in ((height, width), (width, height)) if canvas not in rule.canvases]
    # Larger canvases would cost a compilation and save nothing.
    larger = max(h * w for h, w in rule.canvases)
    return dataclasses.replace(rule, canvases=(*rule.canvases, *(c for c in more if c[0] * c[1] < larger)))
