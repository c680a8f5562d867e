"""Pixels as a reference viewer shows them: every pair of what a format can hold, from its orientation to its layout.

Each file is written by `picture_files` (by Pillow, by pillow_heif, or byte by byte), so the expected pixels come from
how it was made. Every pair of values of two axes that a format allows is in the table at least once. What we do not
read stands in REFUSED with the words that its refusal must contain.
"""

import io
import itertools

import numpy as np
import pytest
from picture_files import COLORS, WRITE, Case, expected
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.errors import UnreadableImage

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
pillow_heif.register_heif_opener()


AXES = Case(
    format=("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "HEIC", "AVIF"),
    orientation=tuple(range(1, 9)),
    # first: the only picture; default: an APNG's still, no frame of its animation; animated: the first of several
    # frames or pages; primary: the second picture, marked as the primary one (HEIC) or behind a preview (TIFF).
    frame=("first", "default", "animated", "primary"),
    alpha=("none", "straight", "zero"),
    depth=("1", "8", "16", "float"),
    photometric=("rgb", "gray", "palette", "cmyk", "white is zero"),
    layout=("chunky", "planar"),
    packed=(False, True),
    order=("<", ">"),
    source=("bytes", "path", "image"),
)
# What a format can hold; an axis that is not named has the first value alone.
HOLDS = {
    "JPEG": {"orientation": AXES.orientation, "frame": ("first", "animated"), "photometric": ("rgb", "gray", "cmyk")},
    "PNG": {
        "orientation": AXES.orientation,
        "frame": ("first", "default", "animated"),
        "alpha": AXES.alpha,
        "depth": ("1", "8", "16"),
        "photometric": ("rgb", "gray", "palette"),
    },
    "TIFF": {
        "orientation": AXES.orientation,
        "frame": ("first", "animated", "primary"),
        "alpha": AXES.alpha,
        "depth": AXES.depth,
        "photometric": AXES.photometric,
        "layout": AXES.layout,
        "packed": AXES.packed,
        "order": AXES.order,
    },
    "BMP": {"alpha": AXES.alpha, "depth": ("1", "8"), "photometric": ("rgb", "gray", "palette")},
    "WEBP": {"orientation": AXES.orientation, "frame": ("first", "animated"), "alpha": AXES.alpha},
    "GIF": {
        "frame": ("first", "animated"),
        "alpha": AXES.alpha,
        "depth": ("1", "8"),
        "photometric": ("gray", "palette"),
    },
    "HEIC": {
        "orientation": AXES.orientation,
        "frame": ("first", "primary"),
        "alpha": AXES.alpha,
        "photometric": ("rgb", "gray"),
    },
    "AVIF": {
        "orientation": AXES.orientation,
        "frame": ("first", "animated"),
        "alpha": AXES.alpha,
        "photometric": ("rgb", "gray"),
    },
}
USUAL = {"orientation": (1,), "frame": ("first",), "alpha": ("none",), "depth": ("8",), "photometric": ("rgb",)} | {
    "layout": ("chunky",),
    "packed": (False,),
    "order": ("<",),
    "source": AXES.source,
}
# The largest difference of a sample. Lossless formats: rounding of alpha, of CMYK and of 16 bits.
TOLERANCE = {"JPEG": 6, "HEIC": 6, "AVIF": 6}
LOSSLESS = 1
# Combinations that are refused, each with the words of its reason. All are TIFFs.
REFUSED = (
    (lambda c: c.depth == "float" and (c.photometric == "rgb" or c.alpha != "none"), "float samples"),
    (lambda c: c.depth == "float" and c.packed and c.order == ">", "float samples"),
    (lambda c: c.depth == "16" and c.layout == "planar" and not c.packed, "separate planes"),
    (lambda c: c.photometric == "gray" and c.layout == "planar", "separate planes"),
    (lambda c: c.depth == "16" and c.photometric == "gray" and c.alpha != "none", "16-bit"),
    (lambda c: c.depth == "16" and c.photometric == "white is zero" and c.order == ">", "16-bit"),
)


def refusal(case: Case) -> str | None:
    return next((words for holds, words in REFUSED if case.format == "TIFF" and holds(case)), None)


def possible(case: Case) -> bool:
    """Whether the format, which holds each value, holds them together."""
    deep = {"1": ("gray", "palette", "white is zero"), "16": ("rgb", "gray", "cmyk", "white is zero")}
    deep["float"] = ("rgb", "gray", "white is zero")
    if case.photometric not in deep.get(case.depth, AXES.photometric):
        return False
    if case.layout == "planar" and COLORS[case.photometric] + (case.alpha != "none") == 1:
        return False
    if case.format == "AVIF" and case.frame == "animated" and case.orientation != 1:
        return False  # Pillow 13.0 crashes while it writes one
    if case.alpha == "none":
        return True
    if case.photometric == "palette":
        return case.format in ("PNG", "GIF")
    if case.format == "GIF":
        return True
    if case.depth == "1" or case.photometric in ("cmyk", "white is zero"):
        return False
    return case.format != "BMP" or case.photometric == "rgb"


def every_case() -> list[Case]:
    cases = []
    for format, holds in HOLDS.items():
        values = [(format,), *((USUAL | holds)[axis] for axis in Case._fields[1:])]
        cases += [case for case in itertools.starmap(Case, itertools.product(*values)) if possible(case)]
    return cases


def pairs(cases: list[Case]) -> set:
    """(axis, axis, value, value) of all pairs of values in the cases."""
    columns = list(zip(*cases, strict=True))
    axes = itertools.combinations(range(len(columns)), 2)
    return {(a, b, *values) for a, b in axes for values in set(zip(columns[a], columns[b], strict=True))}


def pairwise(cases: list[Case]) -> list[Case]:
    """A few of the cases that have every pair of values which any of them has; greedy, the same each time."""
    codes = np.array([[AXES[axis].index(value) for axis, value in enumerate(case)] for case in cases])
    missing = {}
    for a, b in itertools.combinations(range(codes.shape[1]), 2):
        missing[a, b] = np.zeros((codes[:, a].max() + 1, codes[:, b].max() + 1), bool)
        missing[a, b][codes[:, a], codes[:, b]] = True
    chosen = []
    while True:
        gain = sum(table[codes[:, a], codes[:, b]].astype(int) for (a, b), table in missing.items())
        best = int(gain.argmax())
        if not gain[best]:
            return chosen
        chosen.append(cases[best])
        for (a, b), table in missing.items():
            table[codes[best, a], codes[best, b]] = False


CASES = every_case()
# Apart, so that no pair is hidden behind a refusal that another value causes.
READ = pairwise([case for case in CASES if not refusal(case)])
NOT_READ = pairwise([case for case in CASES if refusal(case)])


def source_of(case: Case, folder):
    data = WRITE[case.format](case)
    if case.source == "path":
        path = folder / "picture"
        path.write_bytes(data)
        return path
    if case.source == "bytes":
        return data
    image = Image.open(io.BytesIO(data))
    # An image is read where it stands; Pillow opens a TIFF at its first page, be it a preview.
    image.seek(1 if case.frame == "primary" else 0)
    return image


def named(case: Case) -> str:
    return "-".join(str(value).replace(" ", "_") for value in case)


# ------------------------------------------------------------------------------------------------------- the table
@pytest.mark.parametrize("case", READ, ids=named)
def test_pixels(case, tmp_path):
    source = source_of(case, tmp_path)
    stood = source.tell() if case.source == "image" else None
    found, right = decode(source).astype(float), expected(case)
    assert found.shape == right.shape
    assert np.abs(found - right).max() <= TOLERANCE.get(case.format, LOSSLESS)
    assert stood is None or source.tell() == stood


@pytest.mark.parametrize("case", [case for case in NOT_READ if case.source != "image"], ids=named)
def test_refusals_name_the_cause(case, tmp_path):
    with pytest.raises(UnreadableImage, match=f"TIFF.*{refusal(case)}"):
        decode(source_of(case, tmp_path))


def test_every_valid_pair_is_in_the_table():
    everything, read = pairs(CASES), pairs(READ)
    print(
        f"\n{len(READ)} pictures read and {len(NOT_READ)} refused of {len(CASES)} combinations, {len(everything)} pairs"
    )
    assert everything == read | pairs(NOT_READ)
    assert read == pairs([case for case in CASES if not refusal(case)])
    assert all(set(values) == set(column) for values, column in zip(AXES, zip(*READ, strict=True), strict=True))
