"""Image paths from the command line (files, folders, globs) or from a pipe, as streams."""

import contextlib
import glob
import itertools
import json
import os
import queue
import stat
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from driqa_jax.data import raw
from driqa_jax.data.decode import EXTENSIONS
from driqa_jax.errors import UnreadableImage, UserError
from driqa_jax.inference.stream import PAUSE, Pause

_AHEAD = 1000  # lines of a pipe to read in advance
_CHUNK = 2**16
_HOLDS_NUL = "the name holds a NUL character; give the option -0 if NUL separates the names, as find -print0 writes"


class Listed(NamedTuple):
    """An image of a list: its path, what to decode (the path or an error), and the other keys of its JSON line."""

    path: str
    source: str | UnreadableImage
    others: Mapping[str, Any] = {}
    json: bool = False


def list_pictures(arguments: Sequence[str]) -> Iterator[str]:
    """Image paths in the order of the arguments.

    - A file is taken as it is, whatever its name or kind (a named pipe is read).
    - A folder stands for all regular files below it that have an image extension, sorted by name within each folder.
      Names that begin with a dot are skipped. An unreadable subfolder is listed itself, so that its error is reported.
    - A glob (`**` crosses folders) stands for the regular files it matches, sorted.

    In folders and globs, a raw photo with a JPEG or HEIF of the same name beside it is left out: both are one photo.

    At the end one line on standard error tells of skipped pipes, sockets and devices. Folders are read lazily, so
    memory does not grow with the list.

    Raises UserError immediately for a missing argument, a folder without images, or a glob without a match.
    """
    skipped: list[str] = []
    expanded = [_expand(argument, skipped) for argument in arguments]

    def paths() -> Iterator[str]:
        yield from itertools.chain.from_iterable(expanded)
        if skipped:
            print(f"skipped: {_irregular(skipped)}".encode(errors="backslashreplace").decode(), file=sys.stderr)

    return paths()


def _irregular(skipped: list[str]) -> str:
    others = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"{skipped[0]}{others}, not a regular file"


def _expand(argument: str, skipped: list[str]) -> Iterator[str]:
    if os.path.lexists(argument):
        paths = _below(argument, skipped) if os.path.isdir(argument) else iter([argument])
    elif glob.has_magic(argument):
        names = sorted(glob.glob(argument, recursive=True))
        if not names:
            raise UserError(f"{argument}: matches nothing")
        names = without_pairs(names, names)
        parts = (_below(name, skipped) if os.path.isdir(name) else _regular(name, skipped) for name in names)
        paths = itertools.chain.from_iterable(parts)
    else:
        raise UserError(f"{argument}: no such file or folder")
    first = next(paths, None)
    if first is None:
        why = f" (skipped: {_irregular(skipped)})" if skipped else ""
        raise UserError(f"{argument}: no picture in this folder or below it{why}")
    return itertools.chain([first], paths)


def _regular(path: str, skipped: list[str]) -> Iterator[str]:
    """The path, unless it is a pipe, socket, device or link to a folder: opening one can block forever."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        regular = True  # decoding reports the error
    if regular:
        yield path
    else:
        skipped.append(path)


def _below(folder: str, skipped: list[str]) -> Iterator[str]:
    try:
        with os.scandir(folder) as scan:
            entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in without_pairs(entries, [entry.name for entry in entries]):
        # Links to folders are not followed: they can form a loop.
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, skipped)
        elif raw.extension(entry.name) in EXTENSIONS | raw.EXTENSIONS:
            yield from _regular(entry.path, skipped)


def without_pairs(items: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """The items without those whose name is that of a raw photo beside its JPEG or HEIF."""
    companions = {os.path.splitext(name)[0] for name in names if raw.extension(name) in raw.COMPANIONS}
    return [
        item
        for item, name in zip(items, names, strict=True)
        if raw.extension(name) not in raw.EXTENSIONS or os.path.splitext(name)[0] not in companions
    ]


def read_list(file: IO[bytes], nul: bool = False) -> Iterator[Listed | Pause]:
    """Images named by the lines of a pipe: a path each, or a JSON object with the key "path".

    A line that begins with a brace is JSON (write such a path as ./{...). A malformed line becomes an unreadable image,
    so that output rows match input lines. Empty lines are skipped. `PAUSE` is yielded before waiting for more input.

    nul: names end with NUL, as `find -print0` writes, and are never JSON. Raises UserError if the pipe cannot be read,
    or if its first line holds NUL although `nul` is not set.
    """
    lines: queue.Queue = queue.Queue(_AHEAD)
    # A second file object: at its end the interpreter takes the lock of `sys.stdin`, and aborts if a read holds it.
    with contextlib.suppress(OSError):  # of files without a descriptor
        file = open(file.fileno(), "rb", closefd=False)  # noqa: SIM115

    def read():
        # A daemon thread: a read can block forever and must not keep the process alive.
        try:
            for line in _split_at_nul(file) if nul else file:
                lines.put(line)
        except (OSError, ValueError) as error:
            lines.put(error)
        lines.put(None)

    threading.Thread(target=read, name="driqa-list", daemon=True).start()
    first = True
    while True:
        if lines.empty():
            yield PAUSE
        line = lines.get()
        if line is None:
            return
        if isinstance(line, Exception):
            raise UserError(f"standard input: cannot be read ({line})")
        if nul:
            yield Listed(os.fsdecode(line), os.fsdecode(line))
        elif line := line.rstrip(b"\r\n"):
            if first and b"\0" in line:
                raise UserError(f"standard input: {_HOLDS_NUL}")
            yield _listed(line)
        first = False


def _split_at_nul(file: IO[bytes]) -> Iterator[bytes]:
    """The nonempty names between NUL characters."""
    rest = b""
    while data := getattr(file, "read1", file.read)(_CHUNK):
        *names, rest = (rest + data).split(b"\0")
        yield from filter(None, names)
    if rest:
        yield rest


def _listed(line: bytes) -> Listed:
    path = os.fsdecode(line.replace(b"\0", b"\\0"))
    if b"\0" in line:
        return Listed(path, UnreadableImage(path, _HOLDS_NUL))
    if not line.startswith(b"{"):
        return Listed(path, path)
    try:
        others = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Listed(path, UnreadableImage(path, f"neither a path nor JSON ({error})"), json=True)
    name = others.pop("path", None)
    if not isinstance(name, str) or not name:
        return Listed(path, UnreadableImage(path, 'the object has no "path"'), json=True)
    return Listed(name, name, others, json=True)
