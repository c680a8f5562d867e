"""From what was typed (files, folders, globs), or comes through a pipe, to picture paths, streaming."""

from __future__ import annotations

import glob
import itertools
import json
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from driqa_jax.data.decode import EXTENSIONS
from driqa_jax.data.errors import UnreadableImage
from driqa_jax.errors import UserError
from driqa_jax.inference.stream import PAUSE, Pause

_AHEAD = 1000  # lines of a pipe that are read before they are wanted


class Listed(NamedTuple):
    """A picture of a list: its path, what to decode (the path, or why there is none), its line's other keys."""

    path: str
    source: str | UnreadableImage
    others: Mapping[str, Any] = {}
    json: bool = False


def list_pictures(arguments: Sequence[str]) -> Iterator[str]:
    """Paths of pictures, in the order of the arguments.

    A file stands for itself, whatever its name. A folder stands for every file below it with a picture's
    extension, sorted by name, folder by folder; names that begin with a dot are passed over. A glob (`**`
    crosses folders) stands for what it matches, sorted. A folder below that cannot be read is listed itself,
    so that it is not lost.

    Raises UserError at once, before the first path, for an argument that is not there, an empty folder, a
    glob without a match. Folders are read as the paths are taken, so a list of millions costs no memory.
    """
    return itertools.chain.from_iterable([_expanded(argument) for argument in arguments])


def _expanded(argument: str) -> Iterator[str]:
    if os.path.lexists(argument):
        return _not_empty(argument, _below(argument) if os.path.isdir(argument) else iter([argument]))
    if glob.has_magic(argument):
        names = sorted(glob.glob(argument, recursive=True))
        if not names:
            raise UserError(f"{argument}: matches nothing")
        found = (_below(name) if os.path.isdir(name) else [name] for name in names)
        return _not_empty(argument, itertools.chain.from_iterable(found))
    raise UserError(f"{argument}: no such file or folder")


def _not_empty(argument: str, paths: Iterator[str]) -> Iterator[str]:
    first = next(paths, None)
    if first is None:
        raise UserError(f"{argument}: no picture in this folder or below it")
    return itertools.chain([first], paths)


def _below(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as scan:
            entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        # Links to folders are not followed: they can lead in circles.
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and not entry.is_dir():
            yield entry.path


def read_list(file: IO[bytes]) -> Iterator[Listed | Pause]:
    """Pictures named by the lines of a pipe: a path each, or a JSON object with the key "path".

    A line that begins with a brace is JSON (a path that does so is given as ./{...). One that is broken becomes
    a picture that cannot be read, since rows and lines are to match; empty lines are passed over. Where the
    pipe has nothing more for now, a `PAUSE` comes before it is waited for.
    """
    lines: queue.Queue = queue.Queue(_AHEAD)

    def read():
        # A thread of its own: it may wait for ever, and must not keep the process from ending.
        try:
            for line in file:
                lines.put(line)
        except (OSError, ValueError) as error:
            lines.put(error)
        lines.put(None)

    threading.Thread(target=read, name="driqa-list", daemon=True).start()
    while True:
        if lines.empty():
            yield PAUSE
        line = lines.get()
        if line is None:
            return
        if isinstance(line, Exception):
            raise UserError(f"standard input: cannot be read ({line})")
        if line := line.rstrip(b"\r\n"):
            yield _listed(line)


def _listed(line: bytes) -> Listed:
    path = os.fsdecode(line)
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
