"""KonIQ-10k as its authors distribute it: `1024x768/` or `512x384/`, and one or both of two label files.

Trap: the files hold different scores. `MOS` is 0 to 100 in `koniq10k_distributions_sets.csv`, which has the official
split, and 1 to 5 in `koniq10k_scores_and_distributions.csv`, where `MOS_zscore` is 0 to 100. No affine map relates the
two scales. This reader uses 0 to 100. It ignores `SD`, which describes the five-point votes in both files.
"""

import pathlib
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, csv_rows, rated
from driqa_jax.errors import DataError

TITLE = "KonIQ-10k"
SETS, SCORES = "koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"
SPLITS = {"training": "train", "validation": "val", "test": "test"}
_FIVE_POINTS = 5


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings in the order of the label file, with the official split if the file has it."""
    file, column, split = (root / SETS, "MOS", "set") if (root / SETS).exists() else (root / SCORES, "MOS_zscore", None)
    columns = ["image_name", column, *([split] if split else [])]
    ratings = []
    for line, cells in csv_rows(file, TITLE, columns):
        name = cells["image_name"]
        if split and cells[split] not in SPLITS:
            raise DataError(file, line, f"the set {cells[split]!r} of {name!r} must be one of {', '.join(SPLITS)}")
        ratings.append(rated(file, line, name, cells[column], split=SPLITS[cells[split]] if split else "train"))
    if max(rating.raw for rating in ratings) <= _FIVE_POINTS:
        raise DataError(file, 1, f"its {column} goes from 1 to 5, but the original file of {TITLE} goes from 0 to 100")
    yield from ratings


LAYOUT = Layout(
    title=TITLE,
    homepage="https://database.mmsp-kn.de/koniq-10k-database.html",
    citation="V. Hosu, H. Lin, T. Sziranyi, D. Saupe, IEEE Transactions on Image Processing 29:4041-4056, 2020",
    scores="MOS, 0 to 100",
    scale=(0, 100),
    images=("1024x768", "512x384"),
    labels=((SETS, SCORES),),
    counts={"train": 7058, "val": 1000, "test": 2015},
    read=read,
    split_optional=True,
)
