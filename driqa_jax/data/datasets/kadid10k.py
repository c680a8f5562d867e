"""KADID-10k as its authors distribute it: `images/` and `dmos.csv`.

Traps: `dmos` is better when *higher*; `var` holds standard deviations; the 81 references are stored among the distorted
images.
"""

import pathlib
import re
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, csv_rows, number, rated
from driqa_jax.errors import DataError

TITLE = "KADID-10k"
SCORES = "dmos.csv"
# By number, with the names of the authors' web page.
# fmt: off
TYPES = (
    "gaussian blur", "lens blur", "motion blur", "color diffusion", "color shift", "color quantization",
    "color saturation 1", "color saturation 2", "jpeg2000", "jpeg", "white noise", "white noise in color component",
    "impulse noise", "multiplicative noise", "denoise", "brighten", "darken", "mean shift", "jitter",
    "non-eccentricity patch", "pixelate", "quantization", "color block", "high sharpen", "contrast change",
)
# fmt: on
_NAME = re.compile(r"(I\d\d)_(\d\d)_(\d\d)\.png")


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings in the order of the label file."""
    file = root / SCORES
    for line, cells in csv_rows(file, TITLE, ["dist_img", "ref_img", "dmos", "var"]):
        name = cells["dist_img"]
        match = _NAME.fullmatch(name)
        if not match or not 1 <= int(match[2]) <= len(TYPES):
            raise DataError(file, line, f"{name!r} is not Irr_tt_ll.png: not the label file of {TITLE}")
        if cells["ref_img"] != f"{match[1]}.png":
            raise DataError(file, line, f"{name!r} has the reference {cells['ref_img']!r}")
        std = number(file, line, cells["var"], name)
        kind = {"degradation": TYPES[int(match[2]) - 1], "level": int(match[3])}
        yield rated(file, line, name, cells["dmos"], std=std, reference=match[1], **kind)


LAYOUT = Layout(
    title=TITLE,
    homepage="https://database.mmsp-kn.de/kadid-10k-database.html",
    citation="H. Lin, V. Hosu, D. Saupe, QoMEX 2019",
    scores="scores from 1 to 5, named dmos yet higher is better",
    scale=(1, 5),
    images=("images",),
    labels=(SCORES,),
    counts={"train": 10125},
    read=read,
    top="kadid10k",
)
