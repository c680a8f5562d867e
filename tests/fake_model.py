"""A model of a few parameters that keeps the contract of the real one, for tests of what stands around it."""

import jax.numpy as jnp
import numpy as np

from driqa_jax.inference.scorer import Scorer

WIDTH = 64
METADATA = {
    "format": "driqa_jax/1",
    "variant": "lite",
    "config": {"variant": "lite", "types": 2, "dropout": 0.0},
    "view": {},
    "calibration": {"low": -0.1, "span": 1.2, "centre": 0.5, "width": 0.3},
    "interval": {"level": 0.9, "factor": 1.5, "floor": 0.02},
    "degradations": ["blur", "noise"],
    "provenance": {"steps": 3},
    "licence": "Apache-2.0",
}


class FakeModel:
    """Sees brightness and contrast of the picture (not of the padding) and of its tiles."""

    def apply(self, variables, whole, valid, tiles, tile_boxes, per_tile=False):
        params = variables["params"]
        rows = jnp.arange(whole.shape[1])[None, :] < valid[:, :1]
        columns = jnp.arange(whole.shape[2])[None, :] < valid[:, 1:]
        mask = (rows[:, :, None] & columns[:, None, :]).astype(whole.dtype)[:, :, :, None]
        area = mask.sum(axis=(1, 2))
        moments = (whole * mask).sum(axis=(1, 2)) / area, (whole**2 * mask).sum(axis=(1, 2)) / area

        def hidden(tiles, boxes):
            seen = tiles.mean(axis=(1, 2, 3)), tiles.std(axis=(1, 2, 3)), boxes.sum(axis=1)
            return jnp.tanh(jnp.concatenate([*moments, *seen], axis=-1) @ params["in"]["kernel"])

        def mos(hidden):
            return 0.5 + (hidden @ params["out"]["kernel"])[:, 0]

        together = hidden(tiles, tile_boxes)
        out = {"d": together, "q": together}
        if per_tile:
            each = [mos(hidden(tiles[:, [k]], tile_boxes[:, [k]])) for k in range(tiles.shape[1])]
            out["per_tile_mos"] = jnp.stack(each, axis=1)
        return mos(together), out


def fake_params(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "in": {"kernel": rng.standard_normal((16, WIDTH)).astype(np.float32)},
        "out": {"kernel": (rng.standard_normal((WIDTH, 1)) * 0.05).astype(np.float32)},
    }


def fake_scorer(**options):
    return Scorer(FakeModel(), fake_params(), METADATA, name="fake", **options)


def picture(height, width, seed):
    """A smooth picture with a little noise, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 40.0
    base = np.stack([np.sin(x + seed), np.cos(y), np.sin(x * y / 9 + seed)], axis=-1)
    return np.clip(128 + 60 * base + rng.normal(0, 6 * rng.random(), base.shape), 0, 255).astype(np.uint8)


# One for each of the three canvases, a tiny one, and two more.
SIZES = ((300, 300), (200, 400), (400, 200), (20, 30), (340, 330), (1, 1))


def pictures():
    return [picture(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
