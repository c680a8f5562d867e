"""The page of `driqa cull`: groups side by side, the differing region enlarged, and the choice in the user's hands."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.errors import reason
from driqa_jax.progress import ProgressFn, counter, silent
from driqa_jax.reports.culling import COLUMNS, REJECT, Choice
from driqa_jax.reports.differing_region import differing_region, thumbnail
from driqa_jax.reports.html import inline, name_values, script_file, write_page

_LARGEST_SIDE, _SMALLEST_SIDE = 480, 160
_FULL_SIZE = 1300  # photos that a page shows at the largest side; more photos are shown smaller
_MOST_ZOOMED = 3  # the region is at most a third of the short side
_MOST_COMPARED = 40  # shots of a group, the best ones; a time lapse has thousands
_TEMPLATE, _SCRIPT = "cull.html.j2", "cull.js"


def write_cull_page(
    path: str | os.PathLike,
    groups: Sequence[Sequence[Choice]],
    failed: Sequence[Choice],
    provenance: Mapping[str, Any],
    max_pixels: float,
    progress: ProgressFn = silent,
) -> None:
    """Write the page.

    It shows the groups of several photos, and the single photos that are proposed as rejects. The others are only
    counted, and exported with the rest. Photos are read and written group by group: memory holds one photo at full
    size and the small images of one group.

    Args:
      path: the page to write.
      groups: rows from `driqa_jax.reports.culling.choose`, best first.
      failed: rows of the photos that could not be read.
      provenance: from `driqa_jax.inference.provenance.describe`.
      max_pixels: see `decode`.
      progress: gets ("shown", photos, all photos to show).

    Raises:
      UserError: the page cannot be written.
    """
    several = [group for group in groups if len(group) > 1]
    rejects = [group[0] for group in groups if len(group) == 1 and group[0].choice == REJECT]
    shown = sum(map(len, several)) + len(rejects)
    side, tell = _side(shown), counter(progress, "shown", shown)
    rows = [row for group in groups for row in group] + list(failed)
    numbers = {row.path: number for number, row in enumerate(rows)}
    data = [row.to_row() for row in rows]
    write_page(
        path,
        _TEMPLATE,
        provenance,
        script_file(_SCRIPT),
        title="Photos to keep and to reject",
        photos=len(rows),
        alone=len(groups) - len(several) - len(rejects),
        group_count=len(several),
        single_count=len(rejects),
        failed=[(row.path, row.error) for row in failed],
        groups=_cards(several, numbers, side, max_pixels, tell),
        singles=_cards([[row] for row in rejects], numbers, side, max_pixels, tell),
        data={"columns": COLUMNS, "rows": data, "key": hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]},
    )


def _side(shown: int) -> int:
    """Pixels of the longest side of a shown image; 10,000 photos then make a page of about 140 MB."""
    side = round(_LARGEST_SIDE * math.sqrt(min(1.0, _FULL_SIZE / max(shown, 1))))
    return max(side, _SMALLEST_SIDE)


def _cards(groups, numbers, side, max_pixels, tell) -> Iterator[dict[str, Any]]:
    """Template values of each group."""
    for group in groups:
        photos = [{**_words(row), "row": numbers[row.path]} for row in group]
        region = _region(photos, group, side, max_pixels)
        for photo, row in zip(photos, group, strict=True):
            if photo["problem"] is None:
                _read(photo, row.path, max_pixels, functools.partial(_add_images, photo, region, side))
            tell()
        yield {"number": group[0].group, "photos": photos}


def _words(row: Choice) -> dict[str, Any]:
    fields = {"rank": row.rank, "score": row.score, "choice": row.choice, "reasons": row.reasons}
    return {**name_values(row.path), **fields, "problem": None, "whole": None, "part": None, "frame": None}


def _region(photos, group, side, max_pixels):
    """The region in which the best photos of a group differ most; None for a single photo."""
    if len(group) < 2:
        return None

    def small(image: Image.Image):
        return min(image.size), thumbnail(image)

    compared = list(zip(photos, group, strict=True))[:_MOST_COMPARED]
    found = [_read(photo, row.path, max_pixels, small) for photo, row in compared]
    readable = [one for one in found if one is not None]
    if len(readable) < 2:
        return None
    # At the pixels of the best photo if it is large enough.
    share = min(side / readable[0][0], 1 / _MOST_ZOOMED)
    return differing_region([gray for _, gray in readable], share)


def _read(photo, path, max_pixels, use):
    """What `use` makes of the image, or None with the problem noted: the file may have changed since it was scored."""
    try:
        return decode(path, max_pixels, use=use)
    except Exception as error:
        photo["problem"] = f"cannot be read again: {reason(error, path)}"
        return None


def _add_images(photo, region, side, image: Image.Image) -> None:
    # Averaged down to twice the side first: the filter of `inline` takes long on a large image.
    small = image.reduce(max(max(image.size) // (2 * side), 1))
    photo["whole"] = inline(np.asarray(small), side)
    if region is None:
        return
    left, top, right, bottom = region
    width, height = image.size
    box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    photo["part"] = inline(np.asarray(image.crop(box)), side)
    shares = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    photo["frame"] = {key: round(100 * value, 2) for key, value in shares.items()}
