"""Compute in bfloat16 with float32 parameters.

A layer casts its input to the dtype of its parameters, so casting the parameters sets the compute dtype. In float32
every bit stays the same.
"""

import fnmatch
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

COMPUTE = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Always float32: constants subtracted from features far from zero, and the outputs that losses compare, since
# bfloat16 has three digits.
FLOAT32 = ("*/standardize_*", "*/mos_aux/*", "predictor/score/*", "predictor/weight/*")


def cast(params: dict[str, jax.Array], compute: str) -> dict[str, jax.Array]:
    """Flat parameters `{path: array}` in their compute dtype; gradients come back in float32.

    Raises ValueError if `compute` is not a key of COMPUTE.
    """
    if compute not in COMPUTE:
        raise ValueError(f"compute must be one of {', '.join(COMPUTE)}, got {compute!r}")
    kept = {path for path in params for pattern in FLOAT32 if fnmatch.fnmatchcase(path, pattern)}
    return {path: value.astype(jnp.float32 if path in kept else COMPUTE[compute]) for path, value in params.items()}


def _to_kernel(inputs, kernel, bias, **unused):
    """For `flax.linen.Conv.promote_dtype`, which would otherwise promote the kernel to the dtype of wider inputs."""
    return inputs.astype(kernel.dtype), kernel, None if bias is None else bias.astype(kernel.dtype)


Conv = functools.partial(nn.Conv, promote_dtype=_to_kernel)  # computes in the dtype of its kernel
