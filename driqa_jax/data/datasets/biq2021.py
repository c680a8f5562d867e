"""BIQ2021 as its authors distribute it: `Images/`, and two CSV files with the official split.

Traps: the CSV files begin with a BOM and pad every row with empty cells, and one image file differs in case from its
name in the CSV. Subsets: ss01, images of a camera archive; ss02, taken for the set; ss03, photographs from the web.
"""

import pathlib
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, csv_rows, rated

TITLE = "BIQ2021"
SPLITS = {"train": "Train (Images and MOS).csv", "test": "Test (Images and MOS).csv"}


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings of train, then of test, in the order of the CSV files."""
    for split, file_name in SPLITS.items():
        file = root / file_name
        for line, cells in csv_rows(file, TITLE, ["Image Name", "MOS"]):
            name = cells["Image Name"]
            yield rated(file, line, name, cells["MOS"], subset=name[:4], split=split)


LAYOUT = Layout(
    title=TITLE,
    homepage="https://github.com/nisarahmedrana/BIQ2021",
    citation="N. Ahmed, S. Asif, Journal of Electronic Imaging 31(5):053010, 2022",
    scores="MOS, 0 to 1",
    scale=(0, 1),
    images=("Images",),
    labels=tuple(SPLITS.values()),
    counts={"train": 10000, "test": 2000},
    read=read,
    releases={
        "1.0.0": "First.",
        "1.1.0": "Groups find exposures and blurs of one scene, and no longer chain horizons.",
        "1.2.0": "The features that all sets have; pictures, scores and groups as before.",
    },
)
