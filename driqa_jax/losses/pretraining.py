"""Losses of pretraining: contrast of degradation chains, naming of degradations, distance of restored images."""

import jax
import jax.numpy as jnp
import optax

from driqa_jax.losses._common import masked_log_softmax, mean_over, require_shapes, similarities, wide


def supcon(z: jax.Array, chain: jax.Array, photo: jax.Array, tau: float = 0.1) -> jax.Array:
    """Supervised contrast over a global batch in which several degradation chains apply to each photo.

    Vectors of one chain agree, whatever the photo shows: a positive of an anchor is the *same chain on another photo*.
    The same photo under another chain is a negative, because content must not count. The same photo under the same
    chain, including the anchor itself, is neither and enters no sum. Clean is a chain like any other.

        L = mean_i  -(1/|P(i)|) sum_{p in P(i)} log( exp(s_ip) / sum_{a in A(i)} exp(s_ia) )

    `s` is the cosine divided by tau, `P(i)` the positives, and `A(i)` the positives and negatives. Anchors without a
    positive do not count.

    `z` `(M, C)` float are projections of any length, normalized here; `chain` `(M,)` int is the degradation chain with
    its severities, `photo` `(M,)` int the photo, `tau` the temperature, above 0. Returns a float32 scalar, at least 0;
    0 with zero gradient if no anchor has a positive.
    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2 (the "out" form). The choice of
    pairs is ours.
    """
    require_shapes("supcon", "(M, C)", {"z": z}, {"chain": chain, "photo": photo})
    chain, photo = jnp.asarray(chain), jnp.asarray(photo)
    same_chain = chain[:, None] == chain[None, :]
    same_photo = photo[:, None] == photo[None, :]
    positive = same_chain & ~same_photo
    logs = masked_log_softmax(similarities(z, z, tau), ~(same_chain & same_photo))
    positives = jnp.sum(positive, axis=1)
    per_anchor = -jnp.sum(jnp.where(positive, logs, 0.0), axis=1) / jnp.maximum(positives, 1)
    return mean_over(per_anchor, positives > 0)


def naming_loss(
    logits: jax.Array, severity_hat: jax.Array, present: jax.Array, severity: jax.Array, beta: float = 0.1
) -> tuple[jax.Array, jax.Array]:
    """Type and severity losses. A chain holds several types, so each type is a separate binary question.

    Args:
      logits: `(M, T)` float, *before* the sigmoid.
      severity_hat: `(M, T)` float, predicted severities in [0, 1].
      present: `(M, T)` bool, or float 0 and 1; all 0 for a clean image.
      severity: `(M, T)` float in [0, 1]; ignored for absent types, where it may be anything, NaN included.
      beta: error at which smooth-L1 turns from quadratic to linear.

    Returns `(type_loss, severity_loss)`, float32 scalars: sigmoid cross-entropy averaged over all M*T questions, and
    smooth-L1 averaged over the present types (0 with zero gradient if there are none).
    """
    others = {"severity_hat": severity_hat, "present": present, "severity": severity}
    require_shapes("naming_loss", "(M, T)", {"logits": logits, **others})
    present = wide(present)
    type_loss = jnp.mean(optax.sigmoid_binary_cross_entropy(wide(logits), present))
    counted = present > 0
    # Replace the severities of absent types before any arithmetic, since a NaN would survive a later mask.
    target = jnp.where(counted, wide(severity), 0.0)
    errors = optax.huber_loss(wide(severity_hat), target, delta=beta) / beta
    return type_loss, mean_over(errors, counted)


def charbonnier(restored: jax.Array, clean: jax.Array, eps: float = 1e-3) -> jax.Array:
    """Mean Charbonnier distance, `sqrt((restored - clean)^2 + eps^2)`: an L1 that is smooth at 0.

    `restored` and `clean` have any shape, normally `(B, H, W, 3)` float in [0, 1]. `eps` is the minimum, and the error
    at which the distance turns from quadratic to linear; in units of the image. Returns a float32 scalar >= `eps`.
    Source: Charbonnier et al., ICIP 1994; eps 1e-3 as in Lai et al., LapSRN, CVPR 2017.
    """
    require_shapes("charbonnier", None, {"restored": restored, "clean": clean})
    difference = wide(restored) - wide(clean)
    return jnp.mean(jnp.sqrt(difference * difference + eps * eps))


def psnr_loss(restored: jax.Array, clean: jax.Array, eps: float = 1e-5) -> jax.Array:
    """Mean dB by which the PSNR stays below its bound; every image weighs the same, however degraded.

    `restored` and `clean` are `(M, H, W, C)` float, normally in [0, 1]. `eps` is added to the mean squared error. With
    1e-5 the bound is 50 dB, so nearly clean images stop pulling. Returns `10 log10((MSE + eps) / eps)`, a float32
    scalar, at least 0.
    Source: HINet (Chen et al., CVPRW 2021) and NAFNet (ECCV 2022) train on PSNR; the bound is ours.
    """
    require_shapes("psnr_loss", "(M, H, W, C)", {"restored": restored, "clean": clean})
    squares = jnp.square(wide(restored) - wide(clean)).mean(axis=(1, 2, 3))
    return 10 / jnp.log(10.0) * jnp.log1p(squares / eps).mean()


DISTANCES = {"charbonnier": charbonnier, "psnr": psnr_loss}  # the values of `config.loss.restoration_distance`
