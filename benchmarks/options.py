"""Values of options that several benchmarks share."""

import argparse
import os
import pathlib


def result_file(text: str) -> pathlib.Path:
    """An argparse type: a file to write. Creates its folder, so that a bad path fails before the work starts."""
    path = pathlib.Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path.parent}: {error.strerror}") from None
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path
