"""A DRIQA of the real parts, narrow and on a backbone of two layers: it compiles and steps in a moment.

What is proved on it (loop, resume, devices) are the guarantees of the code around the model, not of its size.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.models.driqa import Size, assemble
from driqa_jax.models.efficientnet import InvertedResidual, Normed
from driqa_jax.models.layers import valid_mask
from driqa_jax.models.restoration import RestorationNet

WIDTH = 32


class TinyBackbone(nn.Module):
    """Two feature maps, at strides 2 and 4."""

    remat: bool = False
    channels = (8, 8)

    @nn.compact
    def __call__(self, images, valid):
        x = jnp.where(valid_mask(valid, *images.shape[1:3], 1), images * 2 - 1, 0.0)
        x = jnp.clip(Normed(8, 3, 2, name="stem")(x), 0.0, 6.0)
        mask = valid_mask(valid, *x.shape[1:3], 2)
        block = nn.remat(InvertedResidual) if self.remat else InvertedResidual
        return [x, block(3, 2, 2, 8, name="stage4_block1")(x, mask)]


SIZE = Size(TinyBackbone(), WIDTH, 2, (8,) * 5, RestorationNet(width=8, encoder=(1,), middle=1), layers=1)


def tiny(config):
    """For `driqa_jax.models.driqa.VARIANTS`."""
    return assemble(SIZE, config)


def smallest(config):
    """The same parts at the least width, for a checkpoint that is kept in the repository."""
    return assemble(SIZE._replace(width=8), config)


def random_params(model, seed=0):
    """Parameters of any model, none of them zero: a fresh one hides what its zeros multiply."""
    rng = np.random.default_rng(seed)
    views = views_of_noise(batch=1, tiles=1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *views)["params"]

    def draw(path, leaf):
        spread = 0.1 if leaf.ndim < 2 else 1 / np.sqrt(np.prod(leaf.shape[:-1]))
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return (centre + spread * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def views_of_noise(batch=2, tiles=2, canvas=(64, 64), tile=32, seed=0):
    """whole, valid (all of the canvas), tiles and tile_boxes of `batch` pictures of noise."""
    rng = np.random.default_rng(seed)
    start = rng.random((batch, tiles, 2)) * 0.5
    return (
        rng.random((batch, *canvas, 3)).astype(np.float32),
        np.tile(np.array([canvas], np.int32), (batch, 1)),
        rng.random((batch, tiles, tile, tile, 3)).astype(np.float32),
        np.concatenate([start, start + 0.4], axis=-1).astype(np.float32),
    )
