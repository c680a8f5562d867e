"""driqa_jax: no-reference image quality assessment, after DRI-IQA, in JAX."""

from driqa_jax.version import VERSION as __version__

__all__ = ["__version__"]
