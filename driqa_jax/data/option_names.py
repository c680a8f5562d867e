"""How an option of a labelled data set is spelled where the user gives it: in Python, a configuration, a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Spelling = Callable[..., str]  # (name, value=None) -> text


def in_python(name: str, value: Any = None) -> str:
    """`mos_range=(1, 5)`."""
    return name if value is None else f"{name}={value!r}"


def in_config(name: str, value: Any = None) -> str:
    """`--config.data.mos_range="(1,5)"`."""
    if isinstance(value, tuple):
        value = f'"({",".join(map(str, value))})"'
    return f"--config.data.{name}" if value is None else f"--config.data.{name}={value}"


def in_command(name: str, value: Any = None) -> str:
    """`--mos-range 1 5`."""
    option = "--data-dir" if name == "images" else "--" + name.replace("_", "-")
    values = value if isinstance(value, tuple) else () if value is None else (value,)
    return " ".join([option, *map(str, values)])
