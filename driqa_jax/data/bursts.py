"""Group the shots of one scene: bursts by time and camera, near duplicates by content.

The descriptors of `near_duplicates` change with the position of what a photo shows. Hands move a camera between two
shots, so the middle of one photo is compared with the middle of the other moved by up to `_SHIFT` in steps of `_STEP`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from driqa_jax.data import near_duplicates
from driqa_jax.data.photo_facts import THUMBNAIL, Facts

BURST_SECONDS = 30.0  # shots of one camera this close in time are probably of one scene
# Similarities that a pair of shots needs. Of 962 photos of BIQ2021 all pairs above .7 show one scene; of 300 shots made
# of them by moving and degrading, 98 % have another shot of their scene above .83.
WITHIN_BURST = near_duplicates.THRESHOLD
WITHOUT_TIME = 0.75
OTHER_TIME = 0.95  # the same view on another day is another photo
_SHIFT, _STEP = 4, 2  # px of a thumbnail: 8 % of the photo


def group_shots(facts: Sequence[Facts]) -> list[list[int]]:
    """Rows of the photos in each group, every photo in one group; groups and rows in ascending order.

    Two photos are connected if their contents are as similar as their times require:

    - `WITHIN_BURST` if one camera took both within `BURST_SECONDS`;
    - `OTHER_TIME` if both have a time, but it is further away or the cameras differ;
    - `WITHOUT_TIME` if one has no time.

    Connected photos form a group, so the groups are the same whatever the order of the photos. Memory is about 20 kB
    per photo.
    """
    if not facts:
        return []
    times = np.array([np.nan if one.taken is None else one.taken for one in facts])
    cameras = np.unique([one.camera for one in facts], return_inverse=True)[1]

    def required(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        apart = np.abs(times[i][:, None] - times[j][None, :])
        close = (apart <= BURST_SECONDS) & (cameras[i][:, None] == cameras[j][None, :])
        similarity = np.where(np.isnan(apart), np.float32(WITHOUT_TIME), np.float32(OTHER_TIME))
        similarity[close] = WITHIN_BURST
        return similarity

    moved = [_describe(facts, y, x) for y, x in itertools.product(range(-_SHIFT, _SHIFT + 1, _STEP), repeat=2)]
    middle = moved[len(moved) // 2]
    labels = near_duplicates.clusters(middle, WITHIN_BURST, required=required, alternatives=moved)
    order = np.argsort(labels, kind="stable")
    return [rows.tolist() for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)]


def _describe(facts: Sequence[Facts], y: int, x: int) -> np.ndarray:
    """Descriptors of the middle of each photo, moved by (y, x) pixels of the thumbnail."""
    rows, columns = (slice(_SHIFT + by, THUMBNAIL - _SHIFT + by) for by in (y, x))
    # An array of its own, because the thumbnail of a file is read-only.
    crops = (Image.fromarray(np.array(one.thumbnail[rows, columns])) for one in facts)
    return np.stack([near_duplicates.describe_image(crop) for crop in crops])
