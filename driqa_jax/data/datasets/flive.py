"""FLIVE (PaQ-2-PiQ) as its authors distribute it: `database/` with images in three folders and tables of scores.

Official split: test is `labels640.csv`, val the rows of `labels=640_padded.csv` marked `is_valid`, train the rest.
The three images of `EE371R/` are always train, because published copies of the split leave them out. Only whole images
are read; patches have separate scores (`labels_patch.csv`).
"""

import pathlib
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, csv_rows, rated
from driqa_jax.errors import DataError

TITLE = "FLIVE"
SCORES, TEST, VALIDATION = "labels_image.csv", "labels640.csv", "labels=640_padded.csv"
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings in the order of the label file."""
    test = {cells["name_image"] for _, cells in csv_rows(root / TEST, TITLE, ["name_image"])}
    validation = {
        cells["name_image"]
        for line, cells in csv_rows(root / VALIDATION, TITLE, ["name_image", "is_valid"])
        if _truth(root / VALIDATION, line, cells["is_valid"]) and not cells["name_image"].startswith("EE371R/")
    }
    if both := sorted(test & validation):
        raise DataError(root / VALIDATION, None, f"{both[0]!r} is validation here and test in {TEST}")
    for line, cells in csv_rows(root / SCORES, TITLE, ["name", "mos"]):
        name = cells["name"]
        split = "test" if name in test else "val" if name in validation else "train"
        yield rated(root / SCORES, line, name, cells["mos"], subset=name.split("/")[0], split=split)


def _truth(file: pathlib.Path, line: int, cell: str) -> bool:
    if cell.lower() not in _TRUTH:
        raise DataError(file, line, f"is_valid must be True or False, got {cell!r}")
    return _TRUTH[cell.lower()]


LAYOUT = Layout(
    title=TITLE,
    homepage="https://github.com/niu-haoran/FLIVE_Database",
    citation="Z. Ying, H. Niu, P. Gupta, D. Mahajan, D. Ghadiyaram, A. Bovik, CVPR 2020",
    scores="MOS, 0 to 100",
    scale=(0, 100),
    images=("voc_emotic_ava", "blur_dataset", "EE371R"),
    labels=(SCORES, TEST, VALIDATION),
    counts={"train": 30256, "val": 7727, "test": 1827},
    read=read,
    top="database",
)
