"""driqa_jax: no-reference image quality assessment, after DRI-IQA, in JAX.

import driqa_jax as driqa

scorer = driqa.load()
scorer("photo.jpg")                        # 0 to 100
mos, out = scorer.apply(images)            # the functional core; jit and grad go through
"""

from typing import Any

from driqa_jax.version import VERSION as __version__

__all__ = ["Scorer", "__version__", "apply", "load"]


def __getattr__(name: str) -> Any:
    """Import on first use: `driqa --help` and `import driqa_jax` then cost no import of jax."""
    if name == "apply":
        from driqa_jax.inference.functional import apply

        return apply
    if name in ("Scorer", "load"):
        from driqa_jax.inference import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
