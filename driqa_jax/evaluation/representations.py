"""The model's representations of images, before and after their interaction, and the similarity of two of them."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax.data.decode import ImageSource, decode
from driqa_jax.data.views import ViewRule, make_view

REPRESENTATIONS = ("d", "q", "d_tilde", "q_tilde")
SHOWN = {"d": "d", "q": "q", "d_tilde": "d~", "q_tilde": "q~"}


class Reader:
    """Computes the representations of an image; compiled once per canvas of the view rule.

    Args:
      model: a `driqa_jax.models.driqa.DRIQA`; params: its parameters; rule: how an image becomes a view.
    """

    def __init__(self, model, params: dict, rule: ViewRule):
        self._params, self._rule = params, rule

        def compute(params, whole, valid, tiles, tile_boxes):
            whole, tiles = (x.astype(jnp.float32) / 255.0 for x in (whole, tiles))
            _, out = model.apply({"params": params}, whole, valid, tiles, tile_boxes)
            return jnp.concatenate([out[name] for name in REPRESENTATIONS])

        self._compute = jax.jit(compute)

    def __call__(self, image: ImageSource, name: str | None = None) -> np.ndarray:
        """(4, C) float32 in the order of `REPRESENTATIONS`. Raises UnreadableImage."""
        view = make_view(decode(image, name=name), self._rule)
        arrays = (view[key][None] for key in ("whole", "valid", "tiles", "tile_boxes"))
        return np.asarray(self._compute(self._params, *arrays))


def stacked(rows: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Results (4, C) of N images as (N, C) by name."""
    columns = np.stack(list(rows), axis=1)
    return dict(zip(REPRESENTATIONS, columns, strict=True))


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float | None:
    """Linear centred kernel alignment of (N, C) and (N, C'), rows of the same N images, N at least 4.

    It is 1 for y = a x Q + b with Q orthogonal, and 0 on average for independent representations; it can be negative.
    None if the estimated HSIC of x or y with itself is not positive. Raises ValueError for other shapes.

    Source: Kornblith et al., ICML 2019, with the unbiased HSIC of Song et al., JMLR 13, 2012, eq. 5; Nguyen et al.,
    ICLR 2021, eq. 3.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"CKA compares (N, C) with (N, C'); got {x.shape} and {y.shape}")
    if len(x) < 4:
        raise ValueError(f"unbiased CKA needs at least 4 pictures, got {len(x)}")
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    shared, own_x, own_y = (_unbiased_hsic(a @ a.T, b @ b.T) for a, b in ((x, y), (x, x), (y, y)))
    return None if own_x <= 0 or own_y <= 0 else float(shared / np.sqrt(own_x * own_y))


def _unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    n = len(k)
    k, m = (kernel - np.diag(np.diag(kernel)) for kernel in (k, m))
    rows_k, rows_m = k.sum(axis=1), m.sum(axis=1)
    all_pairs = rows_k.sum() * rows_m.sum() / ((n - 1) * (n - 2))
    return ((k * m).sum() + all_pairs - 2 / (n - 2) * (rows_k @ rows_m)) / (n * (n - 3))
