"""A cache of compiled programs in the user's cache folder, so that only the first run compiles."""

import hashlib
import os
import pathlib
import platform

SWITCH = "DRIQA_COMPILE_CACHE"
_OFF = ("0", "off", "no", "false")


def cache_folder() -> pathlib.Path:
    """The folder under `$XDG_CACHE_HOME` for programs of this jaxlib on this kind of processor."""
    import jaxlib.version

    base = os.environ.get("XDG_CACHE_HOME")
    # The XDG standard says to ignore relative paths.
    root = pathlib.Path(base) if base and os.path.isabs(base) else pathlib.Path.home() / ".cache"
    kind = hashlib.sha256(processor().encode()).hexdigest()[:12]
    return root / "driqa_jax" / f"xla-{jaxlib.version.__version__}-{kind}"


def enable_compile_cache() -> pathlib.Path | None:
    """Make JAX cache compiled programs. Returns the folder, or None if the cache stays off.

    It stays off if `DRIQA_COMPILE_CACHE=0` is set, if the folder cannot be created, or if JAX has a cache already.
    """
    import jax

    if os.environ.get(SWITCH, "").lower() in _OFF or jax.config.jax_compilation_cache_dir:
        return None
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


def processor() -> str:
    """The kind of this machine's processor: system, architecture and instruction sets."""
    # A shared home serves different machines, and a program compiled for one may crash on another.
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return "\n".join([platform.system(), platform.machine(), *flags])
