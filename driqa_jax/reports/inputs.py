"""From what was typed (files, folders, globs), or comes through a pipe, to picture paths, streaming."""

from __future__ import annotations

import glob
import itertools
import json
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from driqa_jax.data.decode import EXTENSIONS
from driqa_jax.errors import UnreadableImage, UserError
from driqa_jax.inference.stream import PAUSE, Pause

_AHEAD = 1000  # lines of a pipe that are read before they are wanted
_CHUNK = 2**16
_HOLDS_NUL = "the name holds a NUL character; give the option -0 where NUL separates the names, as find -print0 does"


class Listed(NamedTuple):
    """A picture of a list: its path, what to decode (the path, or why there is none), its line's other keys."""

    path: str
    source: str | UnreadableImage
    others: Mapping[str, Any] = {}
    json: bool = False


def list_pictures(arguments: Sequence[str], say: Callable[[str], None] | None = None) -> Iterator[str]:
    """Paths of pictures, in the order of the arguments.

    A file stands for itself, whatever its name and kind: a named pipe is read. A folder stands for every regular file
    below it with a picture's extension, sorted by name, folder by folder; names that begin with a dot are passed over.
    A glob (`**` crosses folders) stands for the regular files that it matches, sorted. A folder below that cannot be
    read is listed itself, so that it is not lost. Pipes, sockets and devices in folders are skipped; `say` gets one
    line about them at the end (default: printed on standard error).

    Raises UserError at once, before the first path, for an argument that is not there, an empty folder, a
    glob without a match. Folders are read as the paths are taken, so a list of millions costs no memory.
    """
    skipped: list[str] = []
    expanded = [_expanded(argument, skipped) for argument in arguments]
    return itertools.chain(itertools.chain.from_iterable(expanded), _skipped_said(skipped, say))


def _skipped_said(skipped: list[str], say: Callable[[str], None] | None) -> Iterator[str]:
    if skipped:
        text = f"skipped: {_are_irregular(skipped)}".encode(errors="backslashreplace").decode()
        say(text) if say else print(text, file=sys.stderr)
    yield from ()


def _are_irregular(skipped: list[str]) -> str:
    others = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"{skipped[0]}{others}, not a regular file"


def _expanded(argument: str, skipped: list[str]) -> Iterator[str]:
    if os.path.lexists(argument):
        paths = _below(argument, skipped) if os.path.isdir(argument) else iter([argument])
        return _not_empty(argument, paths, skipped)
    if glob.has_magic(argument):
        names = sorted(glob.glob(argument, recursive=True))
        if not names:
            raise UserError(f"{argument}: matches nothing")
        found = (_below(name, skipped) if os.path.isdir(name) else _regular(name, skipped) for name in names)
        return _not_empty(argument, itertools.chain.from_iterable(found), skipped)
    raise UserError(f"{argument}: no such file or folder")


def _not_empty(argument: str, paths: Iterator[str], skipped: list[str]) -> Iterator[str]:
    first = next(paths, None)
    if first is None:
        why = f" (skipped: {_are_irregular(skipped)})" if skipped else ""
        raise UserError(f"{argument}: no picture in this folder or below it{why}")
    return itertools.chain([first], paths)


def _regular(path: str, skipped: list[str]) -> Iterator[str]:
    """The path, unless it is a pipe, a socket, a device or a link to a folder: to open one may wait for ever."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        regular = True  # its row says why it cannot be read
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
    for entry in entries:
        # Links to folders are not followed: they can lead in circles.
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, skipped)
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield from _regular(entry.path, skipped)


def read_list(file: IO[bytes], nul: bool = False) -> Iterator[Listed | Pause]:
    """Pictures named by the lines of a pipe: a path each, or a JSON object with the key "path".

    A line that begins with a brace is JSON (a path that does so is given as ./{...). One that is broken becomes
    a picture that cannot be read, since rows and lines are to match; empty lines are passed over. Where the
    pipe has nothing more for now, a `PAUSE` comes before it is waited for.

    `nul`: each name ends with a NUL character instead, as `find -print0` writes, and is a path, never JSON. Raises
    UserError where the first line shows that this is so and `nul` is not set, and where the pipe cannot be read.
    """
    lines: queue.Queue = queue.Queue(_AHEAD)

    def read():
        # A thread of its own: it may wait for ever, and must not keep the process from ending.
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
    """The names between NUL characters, none of them empty."""
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
    except ValueError as error:
        return Listed(path, UnreadableImage(path, f"neither a path nor JSON ({error})"), json=True)
    named = others.pop("path", None)
    if not isinstance(named, str) or not named:
        return Listed(path, UnreadableImage(path, 'the object has no "path"'), json=True)
    return Listed(named, named, others, json=True)
