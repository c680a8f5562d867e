"""Numbers that are no longer finite: found on the device, named on the host.

The step that meets one is not taken, nor any after it, so however late the host looks, the state is the last good one
and its step the one that failed. The host reads the mark only where it reads metrics anyway.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

MARK, NORM = "trouble", "gradient_norm"  # among a step's metrics, beside the loss and its terms


def squares(grads: dict[str, jax.Array]) -> jax.Array:
    """(N,) the squared norm of each parameter's gradient, float32, in the order of sorted paths."""
    return jnp.stack([jnp.sum(jnp.square(grads[path])) for path in sorted(grads)])


def mark(before: jax.Array, terms: dict[str, jax.Array], squared: jax.Array) -> jax.Array:
    """int32: 0 while all is finite, else the number of the first quantity that is not; it stays once set.

    Args:
      before: the mark so far.
      terms: scalars, the loss and its terms.
      squared: (N,) from `squares`.
    """
    values = jnp.concatenate([jnp.stack([terms[name] for name in sorted(terms)]), squared])
    bad = ~jnp.isfinite(values)
    return jnp.where(before > 0, before, jnp.where(bad.any(), bad.argmax() + 1, 0)).astype(jnp.int32)


def name(number: int, metrics: Iterable[str], paths: Iterable[str]) -> str:
    """What a mark above 0 says, from the names of a step's metrics and of the trained parameters, in any order."""
    terms, paths = sorted(set(metrics) - {MARK, NORM}), sorted(paths)
    if number <= len(terms):
        return f"the loss term {terms[number - 1]!r}"
    return f"the gradient of {paths[number - 1 - len(terms)]}"
