"""Collectives of a compiled program, counted in its HLO text."""

import re
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")

# The result's type, then the operation. Of an asynchronous pair only the end counts: it has the result.
_INSTRUCTION = re.compile(rf"^(?:ROOT )?%?\S+ = (\(.*?\)|\S+) ({'|'.join(COLLECTIVES)})(?:-done)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


class Traffic(NamedTuple):
    """`count` instructions of one kind, and the total `bytes` of their results on one device."""

    count: int
    bytes: int


def count_collectives(hlo: str) -> dict[str, Traffic]:
    """The collectives of a program by kind.

    An instruction in a loop counts once. Bytes are those of the results on one device: the gathered array of an
    all-gather, the remaining piece of a reduce-scatter.

    Args:
      hlo: `compiled.as_text()` of any backend.
    """
    result: dict[str, Traffic] = {}
    for line in hlo.splitlines():
        if match := _INSTRUCTION.match(line.strip()):
            shape, kind = match.groups()
            before = result.get(kind, Traffic(0, 0))
            result[kind] = Traffic(before.count + 1, before.bytes + _bytes(shape))
    return {kind: result[kind] for kind in COLLECTIVES if kind in result}


def _bytes(shape):
    bits = 0
    for name, width, sides in _ARRAY.findall(shape):
        size = 1
        for side in filter(None, sides.split(",")):
            size *= int(side)
        bits += size * (8 if name == "pred" else int(width))
    return bits // 8
