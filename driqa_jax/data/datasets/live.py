"""LIVE release 2 as its authors distribute it: five folders of distorted images, scores in .mat files.

Traps: row i of the 982 is the i-th image of the folders in a fixed order; `orgs` marks references; the scores to use
are the realigned ones (`dmos_realigned.mat`, not `dmos.mat`), and 24 of them lie outside 0 to 100.
"""

import pathlib
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, mat_vector

TITLE = "LIVE release 2"
FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # in the order of the rows
NAMES, SCORES = "refnames_all.mat", "dmos_realigned.mat"


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings of the distorted images, in the order of the rows."""
    rows = sum(FOLDERS.values())
    references = mat_vector(root / NAMES, TITLE, "refnames_all", rows)
    file = root / SCORES
    scores, deviations, originals = (mat_vector(file, TITLE, key, rows) for key in ("dmos_new", "dmos_std", "orgs"))
    images = [(folder, k) for folder, count in FOLDERS.items() for k in range(1, count + 1)]
    for row, (folder, k) in enumerate(images):
        if not originals[row]:
            name = f"{folder}/img{k}.bmp"
            reference = pathlib.PurePath(str(references[row])).stem
            score, std = float(scores[row]), float(deviations[row])
            yield Rating(name, name, score, file, std=std, reference=reference, degradation=folder)


LAYOUT = Layout(
    title=TITLE,
    homepage="https://live.ece.utexas.edu/research/Quality/subjective.htm",
    citation="H. R. Sheikh, M. F. Sabir, A. C. Bovik, IEEE Transactions on Image Processing 15(11):3440-3451, 2006",
    scores="DMOS, lower is better",
    scale=(100, 0),
    limits=(-10, 120),
    images=tuple(FOLDERS),
    labels=(NAMES, SCORES),
    counts={"train": 779},
    read=read,
    top="databaserelease2",
)
