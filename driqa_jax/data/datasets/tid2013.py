"""TID2013 as its authors distribute it: `distorted_images/iRR_TT_L.bmp`, `mos_with_names.txt`, `mos_std.txt`.

Traps: the score precedes the name; letter case differs between names and files; the reference photographs, all but one
from Kodak's set, are also in LIVE and elsewhere (`driqa data leaks` compares two sets).
"""

import pathlib
import re
from collections.abc import Iterator

from driqa_jax.data.datasets._layout import Layout, Rating, number, rated, word_lines
from driqa_jax.errors import DataError

TITLE = "TID2013"
SCORES, DEVIATIONS = "mos_with_names.txt", "mos_std.txt"
# By number, with the names of the authors' readme.
# fmt: off
TYPES = (
    "additive Gaussian noise", "additive noise in colour components", "spatially correlated noise", "masked noise",
    "high frequency noise", "impulse noise", "quantization noise", "Gaussian blur", "image denoising",
    "JPEG compression", "JPEG2000 compression", "JPEG transmission errors", "JPEG2000 transmission errors",
    "non eccentricity pattern noise", "local block-wise distortions", "mean shift", "contrast change",
    "change of colour saturation", "multiplicative Gaussian noise", "comfort noise",
    "lossy compression of noisy images", "colour quantization with dither", "chromatic aberrations",
    "sparse sampling and reconstruction",
)
# fmt: on
_NAME = re.compile(r"(i\d\d)_(\d\d)_([1-5])\.bmp")


def read(root: pathlib.Path) -> Iterator[Rating]:
    """The ratings in the order of the label file."""
    file, std_file = root / SCORES, root / DEVIATIONS
    rows, deviations = list(word_lines(file, TITLE, 2)), list(word_lines(std_file, TITLE, 1))
    if len(deviations) != len(rows):
        raise DataError(std_file, None, f"has {len(deviations)} lines, {SCORES} has {len(rows)}: they must match")
    for (line, (score, name)), (std_line, (deviation,)) in zip(rows, deviations, strict=True):
        match = _NAME.fullmatch(name.lower())
        if not match or not 1 <= int(match[2]) <= len(TYPES):
            raise DataError(file, line, f"{score!r} {name!r} is not a score and iRR_TT_L.bmp: not {TITLE}'s label file")
        kind = {"degradation": TYPES[int(match[2]) - 1], "level": int(match[3])}
        std = number(std_file, std_line, deviation, "mos_std")
        yield rated(file, line, name, score, image_id=name.lower(), std=std, reference=match[1], **kind)


LAYOUT = Layout(
    title=TITLE,
    homepage="https://www.ponomarenko.info/tid2013.htm",
    citation="N. Ponomarenko et al., Signal Processing: Image Communication 30:57-77, 2015",
    scores="MOS, 0 to 9",
    scale=(0, 9),
    images=("distorted_images",),
    labels=(SCORES, DEVIATIONS),
    counts={"train": 3000},
    read=read,
)
