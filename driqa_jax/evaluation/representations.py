"""The representations of pictures, before and after their interaction."""

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
    """Compiled once for each canvas of the rule that pictures come to.

    Args:
      model: a `driqa_jax.models.driqa.DRIQA`; params: its parameters; rule: how it looks at a picture.
    """

    def __init__(self, model, params: dict, rule: ViewRule):
        self._params, self._rule = params, rule

        def seen(params, whole, valid, tiles, tile_boxes):
            whole, tiles = (x.astype(jnp.float32) / 255.0 for x in (whole, tiles))
            _, out = model.apply({"params": params}, whole, valid, tiles, tile_boxes)
            return jnp.concatenate([out[name] for name in REPRESENTATIONS])

        self._seen = jax.jit(seen)

    def __call__(self, picture: ImageSource, name: str | None = None) -> np.ndarray:
        """float32 (4, C), in the order of `REPRESENTATIONS`. Raises UnreadableImage."""
        view = make_view(decode(picture, name=name), self._rule)
        arrays = (view[key][None] for key in ("whole", "valid", "tiles", "tile_boxes"))
        return np.asarray(self._seen(self._params, *arrays))


def stacked(rows: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Readings (4, C) of N pictures as (N, C) by name."""
    columns = np.stack(list(rows), axis=1)
    return dict(zip(REPRESENTATIONS, columns, strict=True))
