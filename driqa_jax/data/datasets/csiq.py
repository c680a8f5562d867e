"""CSIQ as its authors distribute it: `dst_imgs/<folder>/<name>.<TOKEN>.<level>.png`, a sheet or a text file of DMOS.

Traps: letter case differs between copies; in the sheet the image `1600` is a number, and the table begins at cell D4.
"""

import math
import pathlib
import re
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, number, rated, word_lines, xlsx_rows
from driqa_jax.errors import DataError

TITLE = "CSIQ"
SHEET, TEXT = "csiq.DMOS.xlsx", "csiq_label.txt"
# The sheet's word -> the folder, also the token in file names. Published splits number images in this order.
TYPES = {
    "noise": "awgn",
    "jpeg": "jpeg",
    "jpeg 2000": "jpeg2000",
    "fnoise": "fnoise",
    "blur": "blur",
    "contrast": "contrast",
}
_NAME = re.compile(r"(?P<reference>\w+)\.(?P<type>\w+)\.(?P<level>[1-5])\.png", re.IGNORECASE)


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings by type, then reference, then level, for either label file."""
    order = list(TYPES.values())
    if (root / SHEET).exists():
        ratings = list(_sheet(root / SHEET))
    else:
        file = root / TEXT
        ratings = [_rating(file, line, name, score) for line, (name, score) in word_lines(file, TITLE, 2)]
    yield from sorted(ratings, key=lambda r: (order.index(r.degradation), r.reference.replace("_", ""), r.level))


def _sheet(file: pathlib.Path) -> Iterator[Rating]:
    columns = ["image", "dst_type", "dst_lev", "dmos_std", "dmos"]
    for line, cells in xlsx_rows(file, TITLE, columns, "all_by_image"):
        image, kind, level, std, score = (cells[column] for column in columns)
        if kind.lower() not in TYPES:
            raise DataError(file, line, f"the distortion {kind!r} must be one of {', '.join(TYPES)}")
        token = TYPES[kind.lower()]
        yield _rating(file, line, f"{image}.{token}.{level}.png", score, number(file, line, std, image))


def _rating(file: pathlib.Path, line: int, name: str, score: str, std: float = math.nan) -> Rating:
    match = _NAME.fullmatch(name)
    if not match or match["type"].lower() not in TYPES.values():
        raise DataError(file, line, f"{name!r} is not <name>.<type>.<level>.png: not the label file of {TITLE}")
    folder = match["type"].lower()
    kind = {"reference": match["reference"].lower(), "degradation": folder, "level": int(match["level"])}
    return rated(file, line, name, score, image_id=name.lower(), path=f"{folder}/{name}", std=std, **kind)


LAYOUT = Layout(
    title=TITLE,
    homepage="https://s2.smu.edu/~eclarson/csiq.html",
    citation="E. C. Larson, D. M. Chandler, Journal of Electronic Imaging 19(1):011006, 2010",
    scores="DMOS, lower is better",
    scale=(1, 0),
    images=("dst_imgs",),
    labels=((SHEET, TEXT),),
    counts={"train": 866},
    read=read,
)
