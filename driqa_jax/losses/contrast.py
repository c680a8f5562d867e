"""Degradation contrast: vectors of one degradation chain agree, whatever the photo shows."""

import jax
import jax.numpy as jnp

from driqa_jax.losses._common import masked_log_softmax, mean_over, require_labels, require_rank, similarities


def supcon(z: jax.Array, chain: jax.Array, photo: jax.Array, tau: float = 0.1) -> jax.Array:
    """Supervised contrast over a global batch in which several degradation chains apply to each photo.

    A positive of an anchor is the *same chain on another photo*. The same photo under another chain is a negative,
    because content must not count. The same photo under the same chain, including the anchor itself, is neither and
    enters no sum. Clean is a chain like any other.

        L = mean_i  -(1/|P(i)|) sum_{p in P(i)} log( exp(s_ip) / sum_{a in A(i)} exp(s_ia) )

    `s` is the cosine divided by tau, `P(i)` the positives, and `A(i)` the positives and negatives. Anchors without a
    positive do not count.

    Args:
      z: `(M, C)` float projections of any length; normalized here.
      chain: `(M,)` int, the degradation chain with its severities.
      photo: `(M,)` int, the photo.
      tau: temperature, above 0.

    Returns:
      Scalar float32, at least 0; 0 with zero gradient if no anchor has a positive.

    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2 (the "out" form). The choice of
    pairs is ours.
    """
    require_rank("supcon", "z", z, "(M, C)")
    require_labels("supcon", "z", z, chain=chain, photo=photo)
    chain, photo = jnp.asarray(chain), jnp.asarray(photo)
    same_chain = chain[:, None] == chain[None, :]
    same_photo = photo[:, None] == photo[None, :]
    positive = same_chain & ~same_photo
    logs = masked_log_softmax(similarities(z, z, tau), ~(same_chain & same_photo))
    positives = jnp.sum(positive, axis=1)
    per_anchor = -jnp.sum(jnp.where(positive, logs, 0.0), axis=1) / jnp.maximum(positives, 1)
    return mean_over(per_anchor, positives > 0)
