"""What a file of results was made with."""

from __future__ import annotations

import os
import pathlib
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

from driqa_jax.version import VERSION

if TYPE_CHECKING:
    from driqa_jax.inference.scorer import Scorer

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow")


def versions() -> dict[str, str]:
    """Versions of this package, Python and the packages that a score depends on."""
    found = {"driqa_jax": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def hardware() -> dict[str, Any]:
    """The machine, as far as the last digit of a figure may depend on it."""
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


def describe(scorer: Scorer) -> dict[str, Any]:
    """Plain values that say which model gave a score, how it looked at the picture, and on what."""
    return {
        "model": scorer.name,
        "variant": scorer.metadata.get("variant"),
        "sha256": scorer.sha256,
        "effort": scorer.effort,
        "view": scorer.rule.to_dict(),
        "calibration": scorer.calibration.to_dict(),
        **({"own_scale": scorer.own_scale.to_dict()} if scorer.own_scale else {}),
        "degradations": list(scorer.degradations),
        "device": f"{scorer.device.platform}: {scorer.device.device_kind}",
        "versions": versions(),
    }
