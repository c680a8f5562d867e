"""Whether the parts of a split share contents: references never may, near neighbours only where others drew it."""

from __future__ import annotations

import numpy as np

from driqa_jax.data.errors import DataError
from driqa_jax.data.open import Source


def require_references_apart(source: Source) -> None:
    """Raises DataError, naming it, where a reference has pictures in two splits of the source."""
    splits, references = source.column("split"), source.column("reference")
    known = (splits != "") & (references != "")
    pairs = np.unique(np.stack([references[known], splits[known]], axis=1), axis=0)
    names, homes = np.unique(pairs[:, 0], return_counts=True)
    if (homes > 1).any():
        first = str(names[homes > 1][0])
        where = " and ".join(pairs[pairs[:, 0] == first, 1])
        raise DataError(
            source.name,
            None,
            f"the reference {first!r} stands in {where} ({(homes > 1).sum()} such references); split by reference",
        )


def require_contents_apart(source: Source, train: Source, val: Source, official: bool) -> str | None:
    """What a training on `train`, validated on `val`, both parts of `source`, shares with pictures held out.

    Held out are the pictures of `val` and of every split that `train` takes nothing from. Returns None where they
    share nothing, or for an `official` split the warning to print: its figures are read with it, and its pictures
    without neighbours can be evaluated alone ("test/novel").

    Raises DataError, naming what is shared: a reference always, a group (near neighbours) where not `official`.
    """
    ids, splits = source.column("image_id"), source.column("split")
    inside = np.isin(ids, train.column("image_id"))
    held = ~inside & (np.isin(ids, val.column("image_id")) | ~np.isin(splits, train.column("split"))) & (splits != "")
    for key, what in (("reference", "reference"), ("group", "scene")):
        values = source.column(key)
        shared = held & np.isin(values, train.column(key)) & (values != "")
        if not shared.any():
            continue
        first = np.flatnonzero(shared)[0]
        twin = np.flatnonzero(inside & (values == values[first]))[0]
        said = (
            f"{shared.sum()} of {held.sum()} pictures held out share a {what} with the training part {train.name}: "
            f"'{ids[first]}' ({splits[first]}) and '{ids[twin]}' ({splits[twin]}), both '{values[first]}'"
        )
        if key == "reference" or not official:
            raise DataError(source.name, None, f"{said}; draw a split that keeps them together (driqa data split)")
        return f"{source.name}: {said}; report the figures of the /novel part too"
    return None
