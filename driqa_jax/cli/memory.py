"""Settings of the C library's allocator for long computations on a CPU."""

import os
import platform
import sys
from collections.abc import Sequence

# The benchmark `train` shares its name with the command it measures.
COMMANDS = (("train",), ("protocol",), ("examine",))
# A step's arrays of a gigabyte would be given back to the system after it and faulted in again, 4 kB at a time, in the
# next: a third of a training's time. Huge pages, and nothing given back.
TUNABLES = {"hugetlb": 1, "mmap_max": 0, "trim_threshold": 2**34, "top_pad": 2**28}
VARIABLE = "GLIBC_TUNABLES"


def keep_memory(arguments: Sequence[str]) -> None:
    """Start this process again, under the same number, with the settings; they are read at a process' start alone.

    Nothing happens for a command that is none of `COMMANDS`, where the variable is set already, or where the C library
    is not glibc.

    Args:
      arguments: of the command line, the command first.
    """
    if not any(tuple(arguments[: len(words)]) == words for words in COMMANDS) or VARIABLE in os.environ:
        return
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return
    os.environ[VARIABLE] = ":".join(f"glibc.malloc.{name}={value}" for name, value in TUNABLES.items())
    os.execv(sys.executable, sys.orig_argv)
