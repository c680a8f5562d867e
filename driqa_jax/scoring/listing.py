"""From what was typed (files, folders, globs) to picture paths, streaming."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence

from driqa_jax.data.decode import EXTENSIONS
from driqa_jax.errors import UserError


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
            entries = sorted(
                (entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name
            )
    except OSError:
        yield folder
        return
    for entry in entries:
        # Links to folders are not followed: they can lead in circles.
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and not entry.is_dir():
            yield entry.path
