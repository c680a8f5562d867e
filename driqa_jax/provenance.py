"""The software and hardware that produced a result."""

import os
import pathlib
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from driqa_jax.version import VERSION

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of this package, Python and `packages`, those that a result depends on."""
    found = {"driqa_jax": VERSION, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def hardware() -> dict[str, Any]:
    """Devices, processor and system: the last digits of a score can depend on them."""
    import jax

    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": len(jax.devices()),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
