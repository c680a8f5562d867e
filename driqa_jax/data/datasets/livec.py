"""LIVE In the Wild (LIVE-C, CLIVE) as its authors distribute it: `Images/`, and `Data/` with .mat files.

Traps: the first seven rows are the observers' training images, stored in a separate folder; BMP and JPEG are mixed.
"""

import pathlib
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, mat_vector
from driqa_jax.errors import DataError

TITLE = "LIVE In the Wild"
NAMES, SCORES, DEVIATIONS = ("Data/AllImages_release.mat", "Data/AllMOS_release.mat", "Data/AllStdDev_release.mat")
TRAINING, ROWS = 7, 1169


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings in the order of the rows, without the training images."""
    names, scores, deviations = (
        mat_vector(root / file, TITLE, pathlib.PurePath(file).stem, ROWS) for file in (NAMES, SCORES, DEVIATIONS)
    )
    first = [str(name) for name in names[:TRAINING]]
    if [pathlib.PurePath(name).stem for name in first] != [f"t{k}" for k in range(1, TRAINING + 1)]:
        raise DataError(root / NAMES, None, f"begins with {', '.join(first)}, where {TITLE} begins with t1 to t7")
    for name, score, std in list(zip(names, scores, deviations, strict=True))[TRAINING:]:
        yield Rating(image_id=str(name), path=str(name), raw=float(score), file=root / SCORES, std=float(std))


LAYOUT = Layout(
    title=TITLE,
    homepage="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
    citation="D. Ghadiyaram, A. C. Bovik, IEEE Transactions on Image Processing 25(1):372-387, 2016",
    scores="MOS, 0 to 100",
    scale=(0, 100),
    images=("Images",),
    labels=(NAMES, SCORES, DEVIATIONS),
    counts={"train": 1162},
    read=read,
    top="ChallengeDB_release",
)
