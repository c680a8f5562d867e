"""Compute in bfloat16 with float32 parameters.

A layer computes in the dtype of its parameters: what it is given is brought to that, so casting the parameters is all
there is to ask for. In float32 nothing changes, not a bit.
"""

import fnmatch
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

COMPUTE = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# What stays in float32 whatever the rest computes in: constants that are subtracted from features far from zero, and
# the read-outs whose numbers the losses compare, since bfloat16 has three digits.
FLOAT32 = ("*/standardize_*", "*/mos_aux/*", "predictor/score/*", "predictor/weight/*")


def cast(params: dict[str, jax.Array], compute: str) -> dict[str, jax.Array]:
    """Flat parameters `{path: array}` in the dtype that they compute in; gradients come back in float32.

    Raises:
      ValueError: `compute` is not a key of COMPUTE.
    """
    if compute not in COMPUTE:
        raise ValueError(f"compute is {compute!r}; there are {', '.join(COMPUTE)}")

    def wanted(path):
        kept = any(fnmatch.fnmatchcase(path, pattern) for pattern in FLOAT32)
        return jnp.float32 if kept else COMPUTE[compute]

    return {path: value.astype(wanted(path)) for path, value in params.items()}


def _to_kernel(inputs, kernel, bias, **unused):
    """For `flax.linen.Conv.promote_dtype`, which else brings a kernel to the dtype of wider inputs."""
    return inputs.astype(kernel.dtype), kernel, None if bias is None else bias.astype(kernel.dtype)


Conv = functools.partial(nn.Conv, promote_dtype=_to_kernel)  # `flax.linen.Conv` in the dtype of its kernel
