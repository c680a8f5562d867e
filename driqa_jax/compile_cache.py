"""Compiled programs kept in the user's cache folder: only the first run waits for the compiler."""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform

SWITCH = "DRIQA_COMPILE_CACHE"
_OFF = ("0", "off", "no", "false")


def cache_folder() -> pathlib.Path:
    """The folder for compiled programs of this jaxlib on this kind of processor, under `$XDG_CACHE_HOME`."""
    import jaxlib.version

    base = os.environ.get("XDG_CACHE_HOME")
    # The standard has relative paths ignored.
    root = pathlib.Path(base) if base and os.path.isabs(base) else pathlib.Path.home() / ".cache"
    kind = hashlib.sha256(processor().encode()).hexdigest()[:12]
    return root / "driqa_jax" / f"xla-{jaxlib.version.__version__}-{kind}"


def enable_compile_cache() -> pathlib.Path | None:
    """Have jax keep compiled programs; returns the folder, or None where it stays off.

    Off where the environment has `DRIQA_COMPILE_CACHE=0`, where the folder cannot be made, and where the
    caller has given jax a cache folder already.
    """
    import jax

    if os.environ.get(SWITCH, "").lower() in _OFF or jax.config.jax_compilation_cache_dir:
        return None
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


def processor() -> str:
    """The kind of this machine's processor: system, architecture and instruction sets."""
    # A home on a shared disk serves unlike machines, and a program compiled for one may not run on another.
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return "\n".join([platform.system(), platform.machine(), *flags])
