"""Data sets as their authors distribute them, one file each.

To add a data set, add one file `NAME.py` that defines `LAYOUT`; the command line, the checks and the tfds builder
find it by its name. Files that start with an underscore hold what the data sets share.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the help of a command shows NAMES, and must not wait for numpy
    from driqa_jax.data.datasets._layout import Layout

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def layout_of(name: str) -> Layout:
    """The layout of a data set. Raises ValueError for an unknown name."""
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; it must be one of {', '.join(NAMES)}")
    return importlib.import_module(f"driqa_jax.data.datasets.{name}").LAYOUT
