"""A source made of several sources, to test streams over more than one data set."""

from collections.abc import Sequence

import numpy as np

from driqa_jax.data.source import EXTRA_COLUMNS, TEXT_COLUMNS, Source


class Joined(Source):
    """Several sources one after another; each keeps its percentiles and dataset names."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = tuple(sources)
        self._starts = np.cumsum([0, *(len(source) for source in sources)])
        keys = ("mos", *TEXT_COLUMNS, *EXTRA_COLUMNS)
        columns = {key: np.concatenate([s.column(key) for s in sources]) for key in keys}
        super().__init__("+".join(source.name for source in sources), **columns)
        self._columns["percentile"] = np.concatenate([s.column("percentile") for s in sources])
        self.label_files = {f"{s.name}/{name}": sha for s in sources for name, sha in s.label_files.items()}

    def encoded(self, i: int) -> bytes:
        which = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._sources[which].encoded(i - int(self._starts[which]))
