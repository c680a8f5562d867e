"""SPAQ as its authors distribute it: `TestImage/`, full-size photographs of phones, and a sheet of scores."""

import pathlib
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, rated, xlsx_rows

TITLE = "SPAQ"
SCORES = "Annotations/MOS and Image attribute scores.xlsx"


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings in the order of the sheet."""
    file = root / SCORES
    for line, cells in xlsx_rows(file, TITLE, ["Image name", "MOS"]):
        name = cells["Image name"]
        yield rated(file, line, name, cells["MOS"])


LAYOUT = Layout(
    title=TITLE,
    homepage="https://github.com/h4nwei/SPAQ",
    citation="Y. Fang, H. Zhu, Y. Zeng, K. Ma, Z. Wang, CVPR 2020",
    scores="MOS, 0 to 100",
    scale=(0, 100),
    images=("TestImage",),
    labels=(SCORES,),
    counts={"train": 11125},
    read=read,
)
