"""PIPAL's training part as its authors distribute it: four folders of distorted images, one label file per reference.

It includes outputs of restoration and super-resolution networks. Traps: a comma, sometimes with a blank, separates name
and score; the release only numbers its types (names from Table 10 of arXiv:2011.15002, identified by their number of
variants); variants are not levels.
"""

import pathlib
import re
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, rated, word_lines
from driqa_jax.errors import DataError

TITLE = "PIPAL"
LABELS = "Train_Label"
# fmt: off
TYPES = (
    "traditional super-resolution", "PSNR-oriented super-resolution", "super-resolution with kernel mismatch",
    "GAN-based super-resolution", "denoising", "super-resolution and denoising", "traditional distortions",
)
# fmt: on
_NAME = re.compile(r"(A\d{4})_0([0-6])_(\d\d)\.bmp")


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings, reference by reference."""
    files = sorted((root / LABELS).glob("A*.txt"))
    if not files:
        raise DataError(root / LABELS, None, f"holds no A*.txt; it comes with {TITLE}")
    for file in files:
        for line, (name, score) in word_lines(file, TITLE, 2):
            match = _NAME.fullmatch(name)
            if not match or match[1] != file.stem:
                raise DataError(file, line, f"{name!r} is not {file.stem}_tt_vv.bmp: not the label file of {TITLE}")
            yield rated(file, line, name, score, reference=match[1], degradation=TYPES[int(match[2])])


LAYOUT = Layout(
    title=TITLE,
    homepage="https://www.jasongt.com/projectpages/pipal.html",
    citation="J. Gu, H. Cai, H. Chen, X. Ye, J. Ren, C. Dong, ECCV 2020",
    scores="Elo ratings, higher is better",
    scale=(916.7136, 1835.9856),  # the lowest and the highest of the 23,200
    images=("Distortion_1", "Distortion_2", "Distortion_3", "Distortion_4"),
    labels=(LABELS,),
    counts={"train": 23200},
    read=read,
)
