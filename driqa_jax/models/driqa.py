"""DRI-IQA, assembled: two representations of a photo, their interaction, restoration assistance, and a score.

This is a reconstruction from the abstract of arXiv 2411.17390 (WACV 2025). The abstract names the parts; their form is
this project's.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax.models.ablations import parts
from driqa_jax.models.deduction import DeductionModel, assemble_deduction
from driqa_jax.models.degradation_encoder import Degradation, DegradationEncoder
from driqa_jax.models.efficientnet import EfficientNetLite0
from driqa_jax.models.interaction import Interaction
from driqa_jax.models.layers import Dense, cell_coordinates, grid_coordinates, sincos_positions
from driqa_jax.models.predictor import MOSPredictor
from driqa_jax.models.quality_encoder import STRIDE, Quality, QualityEncoder
from driqa_jax.models.restoration import RestorationNet, pooled
from driqa_jax.models.vit import ViT

_QUALITY = "quality_"  # begins the names of the fields of `Quality` among the outputs of stages


class TileReading(NamedTuple):
    """Encodings of M tiles, K per photo: `vector` (M, C) and `tokens` (M, N, C) of `E_d`, `restoration` tokens
    (M, N, C) of `R`."""

    vector: jax.Array
    tokens: jax.Array
    restoration: jax.Array


class Features(NamedTuple):
    """All inputs of the parts that stage 2 trains, for B photos with K tiles each.

    `moments` (B, F) and `cells` (B, h, w, F') of the quality backbone, see `QualityEncoder.features`; `valid` (B, 2);
    `vector` (B * K, C) and `tokens` (B * K, N, C) of `E_d`; `levels` of `R`'s decoder, each (B * K, g, g, c) with
    g^2 = N; `tile_boxes` (B, K, 4).
    """

    moments: jax.Array
    cells: jax.Array
    valid: jax.Array
    vector: jax.Array
    tokens: jax.Array
    levels: list[jax.Array]
    tile_boxes: jax.Array


class DRIQA(nn.Module):
    """The whole model in the form "interaction"; a module with the same signature can replace any part.

    Every form has three constants beside `__call__`. `stages`: methods that together score; each takes the views and
    the outputs of earlier ones, by name, and the last gives `(mos, out)`. `restores`: whether there is a method
    `restore`. `explained_tiles`: the least number of tiles for an explanation.
    """

    degradation_encoder: nn.Module
    degradation_read: nn.Module
    restoration: nn.Module
    restoration_tokens: nn.Module
    quality_encoder: nn.Module
    interaction: nn.Module
    predictor: nn.Module
    rs_projection_d: nn.Module
    rs_projection_q: nn.Module

    stages = ("read_degradation", "read_restoration", "read_quality", "read_score")
    restores = True
    explained_tiles = 1  # the map comes from the whole image

    def encode_degradation(self, tiles: jax.Array) -> Degradation:
        """Run `E_d` on `tiles` (M, H, W, 3) float in [0, 1]."""
        return self.degradation_encoder(tiles)

    def pretraining(self, tiles: jax.Array) -> tuple[Degradation, jax.Array]:
        """Run only what stage 0+1 trains, `E_d` and `R`; used to initialize their parameters."""
        encoded = self.encode_degradation(tiles)
        return encoded, self.restore(tiles, encoded.vector)

    def restore(self, tiles: jax.Array, d: jax.Array) -> jax.Array:
        """Run `R`: `tiles` (M, H, W, 3), `d` (M, C) -> restored (M, H, W, 3)."""
        return self.restoration(tiles, d)[0]

    def __call__(
        self,
        whole: jax.Array,
        valid: jax.Array,
        tiles: jax.Array,
        tile_boxes: jax.Array,
        keys: jax.Array | None = None,
        per_tile: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Score photos.

        Args:
          whole: (B, H, W, 3) float in [0, 1]; the whole image at the top left of a canvas.
          valid: (B, 2) int32; rows and columns of the canvas that the image covers, multiples of 32.
          tiles: (B, K, S, S, 3) float in [0, 1]; native-resolution tiles, S divisible by 32.
          tile_boxes: (B, K, 4) float; y0, x0, y1, x1 of each tile as fractions of the image.
          keys: (B,) random keys, one per photo, in training; None when scoring.
          per_tile: whether to return `per_tile_mos` too, the MOS from each tile on its own. The encoders and the
            restorer still run once, and the restorer reads the `d` of all tiles.

        Returns:
          mos (B,), on the training scale (MOS 0 to 1, higher is better), and `out`, the named intermediates:

          d, q, d_tilde, q_tilde (B, C): degradation and quality vectors before and after the interaction;
          D, D_tilde, restoration_tokens (B, K * N, C) and Q, Q_tilde (B, N', C): the tokens;
          restored (B, K, S, S, 3): the restored tiles, not clipped;
          patch_scores, patch_weights (B, h, w) and patch_mask (B, h, w) bool: the quality map;
          degradation_logits (B, T), severity (B, T) in [0, 1]: means over the tiles;
          contrast_projection (B * K, C / 2); rs_d, rs_q (B, C); mos_aux (B,): inputs of the losses;
          per_tile_mos (B, K): only with `per_tile`.
        """
        batch, count = tiles.shape[:2]

        def over_tiles(x):
            return x.reshape(batch, count, *x.shape[1:]).mean(axis=1)

        encoded = self.degradation_encoder(tiles.reshape(-1, *tiles.shape[2:]))
        restored, levels = self._restored(tiles, encoded.vector)
        moments, cells = self.quality_encoder.features(whole, valid)
        features = Features(moments, cells, valid, encoded.vector, encoded.tokens, levels, tile_boxes)
        mos, out = self.from_features(features, keys, per_tile)
        return mos, {
            **out,
            "restored": restored.reshape(tiles.shape),
            "degradation_logits": over_tiles(encoded.logits),
            "severity": over_tiles(encoded.severity),
            "contrast_projection": encoded.projection,
        }

    def look_at_quality(self, whole: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`moments` and `cells` of `Features` from `whole` (B, H, W, 3) float in [0, 1] and `valid` (B, 2) int32."""
        return self.quality_encoder.features(whole, valid)

    def look_at_tiles(self, tiles: jax.Array) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
        """`vector`, `tokens` and `levels` of `Features` from `tiles` (B, K, S, S, 3) float in [0, 1]."""
        encoded = self.degradation_encoder(tiles.reshape(-1, *tiles.shape[2:]))
        return encoded.vector, encoded.tokens, self._restored(tiles, encoded.vector)[1]

    def from_features(
        self, features: Features, keys: jax.Array | None = None, per_tile: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """A call from `features` on: mos (B,) and `out` without the outputs of `E_d`'s heads and of `R`."""
        tokens_t = self.restoration_tokens(features.levels, math.isqrt(features.tokens.shape[1]))
        read = TileReading(features.vector, features.tokens, tokens_t)
        quality = self.quality_encoder.heads(features.moments, features.cells, features.valid, keys)
        canvas = features.cells.shape[1] * STRIDE, features.cells.shape[2] * STRIDE
        mos, out = self.combine(read, features.tile_boxes, quality, features.valid, canvas, per_tile)
        return mos, {
            **out,
            "q": quality.vector,
            "rs_d": self.rs_projection_d(out["d_tilde"]),
            "rs_q": self.rs_projection_q(out["q_tilde"]),
            "mos_aux": quality.mos_aux,
        }

    def read_degradation(self, views: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """`vector` (B, K, C) and `tokens` (B, K, N, C) of the tiles."""
        tiles = views["tiles"]
        encoded = self.encode_degradation(tiles.reshape(-1, *tiles.shape[2:]))
        arrays = {"vector": encoded.vector, "tokens": encoded.tokens}
        return {name: x.reshape(*tiles.shape[:2], *x.shape[1:]) for name, x in arrays.items()}

    def read_restoration(self, views: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The tokens of `R`, (B, K, N, C)."""
        tiles, vector = views["tiles"], views["vector"]
        levels = self._restored(tiles, vector.reshape(-1, vector.shape[-1]))[1]
        tokens = self.restoration_tokens(levels, tiles.shape[2] // STRIDE)
        return {"restoration": tokens.reshape(*tiles.shape[:2], *tokens.shape[1:])}

    def read_quality(self, views: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The fields of `Quality`, by names that begin with "quality_"; without dropout."""
        found = self.quality_encoder(views["whole"], views["valid"])
        return {_QUALITY + name: value for name, value in found._asdict().items()}

    def read_score(self, views: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`combine` with `per_tile`, from the views and the outputs of the other stages."""
        read = TileReading(*(views[name].reshape(-1, *views[name].shape[2:]) for name in TileReading._fields))
        quality = Quality(*(views[_QUALITY + name] for name in Quality._fields))
        return self.combine(read, views["tile_boxes"], quality, views["valid"], views["whole"].shape[1:3], True)

    def combine(
        self,
        read: TileReading,
        tile_boxes: jax.Array,
        quality: Quality,
        valid: jax.Array,
        canvas: tuple[int, int],
        per_tile: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Run interaction and predictor on the outputs of the encoders and the restorer.

        `tile_boxes` (B, K, 4); `valid` (B, 2); `canvas` is the height and width of `whole`; `per_tile` as in a call.
        Returns mos (B,) and the outputs of these two parts.
        """
        batch, count = tile_boxes.shape[:2]
        grid = math.isqrt(read.tokens.shape[1])
        vectors, tokens_d = self.degradation_read(
            read.vector.reshape(batch, count, -1), read.tokens.reshape(batch, count, *read.tokens.shape[1:])
        )
        d = vectors.mean(axis=1)
        coordinates = grid_coordinates(tile_boxes.reshape(-1, 4), grid, grid)
        places = sincos_positions(coordinates, d.shape[-1]).reshape(batch, -1, d.shape[-1])
        tokens_d = tokens_d.reshape(places.shape) + places
        tokens_t = read.restoration.reshape(places.shape) + places

        rows, cols = canvas[0] // STRIDE, canvas[1] // STRIDE
        tokens_q = quality.tokens + sincos_positions(cell_coordinates(valid, rows, cols, STRIDE), d.shape[-1])

        d_tilde, tokens_d_tilde, q_tilde, tokens_q_tilde = self.interaction(
            d, tokens_d, quality.vector, tokens_q, quality.mask
        )
        mos, scores, weights = self.predictor(tokens_q_tilde, quality.mask, tokens_t, tokens_d_tilde, d_tilde)

        def as_map(x):
            return x.reshape(batch, rows, cols)

        out = {
            "d": d,
            "D": tokens_d,
            "Q": tokens_q,
            "d_tilde": d_tilde,
            "D_tilde": tokens_d_tilde,
            "q_tilde": q_tilde,
            "Q_tilde": tokens_q_tilde,
            "restoration_tokens": tokens_t,
            "patch_scores": as_map(scores),
            "patch_weights": as_map(weights),
            "patch_mask": as_map(quality.mask),
        }
        if per_tile:
            q, tokens_q, mask = (jnp.repeat(x, count, axis=0) for x in (quality.vector, tokens_q, quality.mask))
            tokens_d, tokens_t = (x.reshape(batch * count, -1, x.shape[-1]) for x in (tokens_d, tokens_t))
            d_tilde, tokens_d_tilde, _, tokens_q_tilde = self.interaction(
                vectors.reshape(batch * count, -1), tokens_d, q, tokens_q, mask
            )
            each = self.predictor(tokens_q_tilde, mask, tokens_t, tokens_d_tilde, d_tilde)[0]
            out["per_tile_mos"] = each.reshape(batch, count)
        return mos, out

    def _restored(self, tiles, vector):
        batch, count, side = tiles.shape[:3]
        # R reads the vector from before the interaction, so that it can train without MOS.
        d = vector.reshape(batch, count, -1).mean(axis=1)
        restored, levels = self.restoration(tiles.reshape(-1, *tiles.shape[2:]), jnp.repeat(d, count, axis=0))
        return restored, pooled(levels, side // STRIDE)


def count_types(config: ml_collections.ConfigDict) -> int:
    """The number of degradation types of the naming head. Raises ValueError if it is 0."""
    count = config.types if isinstance(config.types, int) else len(config.types)
    if count < 1:
        raise ValueError("model.types must name at least one degradation, got none")
    return count


class Size(NamedTuple):
    """A variant: `E_q`'s backbone, `width` (C), attention heads, `E_d`'s channels, `R`, interaction layers (L)."""

    backbone: nn.Module
    width: int
    heads: int
    channels: tuple[int, ...]
    restoration: RestorationNet
    layers: int = 2


# The values of keys that older weights lack.
OLDER = {"statistics": False, "median": False}


def assemble(size: Size, config: ml_collections.ConfigDict) -> nn.Module:
    """The whole model at a size; `config` as for `build_model`. Raises ValueError for an unknown switch value."""
    form = config.get("form", "interaction")
    if form not in FORMS:
        raise ValueError(f"model.form must be one of {', '.join(FORMS)}, got {form!r}")
    return FORMS[form](size, config)


def _interaction(size, config) -> DRIQA:
    part = parts(config)
    median = config.get("median", OLDER["median"])
    return DRIQA(
        degradation_encoder=_degradation_encoder(size, config),
        degradation_read=part["degradation"](),
        restoration=size.restoration.clone(inject=part["inject"], condition=part["condition"], median=median),
        restoration_tokens=part["restoration"](size.width),
        quality_encoder=QualityEncoder(part["quality"](size.backbone), size.width, config.dropout),
        interaction=Interaction(size.heads, size.layers, part["interaction"]),
        predictor=MOSPredictor(size.heads),
        rs_projection_d=Dense(size.width),
        rs_projection_q=Dense(size.width),
    )


def _deduction(size, config) -> DeductionModel:
    quality = QualityEncoder(size.backbone.clone(), size.width)
    return assemble_deduction(_degradation_encoder(size, config).clone(names=False), quality, config)


def _degradation_encoder(size, config):
    statistics = config.get("statistics", OLDER["statistics"])
    return DegradationEncoder(size.width, count_types(config), statistics, size.channels)


FORMS: dict[str, Callable] = {"interaction": _interaction, "deduction": _deduction}
SIZES = {
    "lite": Size(EfficientNetLite0(), 128, 4, (16, 32, 64, 96, 128), RestorationNet(24, (1, 1), middle=3)),
    "s": Size(ViT(384, heads=6), 256, 8, (24, 48, 96, 160, 224), RestorationNet(32, (1, 1, 2), middle=4)),
    "b": Size(ViT(768, heads=12), 384, 12, (24, 64, 128, 224, 320), RestorationNet(48, (1, 2, 2), middle=6)),
}
VARIANTS: dict[str, Callable] = {name: functools.partial(assemble, size) for name, size in SIZES.items()}


def build_model(config: ml_collections.ConfigDict, remat: bool = False) -> Any:
    """The model of `config.variant` in the form `config.form`.

    Args:
      config: `variant`; `types`, the names or the number of the degradations of the naming head; `dropout`, the rate
        on the pooled features of the quality encoder in training; `statistics`, whether `E_d` reads signal statistics,
        and `median`, whether `R` reads the median (both false if absent, as in older weights); the switches of
        `ablations`; `form`, "interaction" if absent, which is `DRIQA`, or "deduction", which is `DeductionModel`.
        The latter reads `head`: the arguments of `DeductionHead` but `types`.
      remat: whether backbone and restorer recompute each block in the backward pass: less memory, about a third more
        work.

    Raises:
      ValueError: unknown variant or switch value; the message lists the choices.
    """
    if config.variant not in VARIANTS:
        raise ValueError(f"model.variant must be one of {', '.join(sorted(VARIANTS))}, got {config.variant!r}")
    model = VARIANTS[config.variant](config)
    if not remat:
        return model
    encoder = model.quality_encoder
    if hasattr(encoder.backbone, "remat"):  # learned maps have no blocks to recompute
        encoder = encoder.clone(backbone=encoder.backbone.clone(remat=True))
    remade = {"restoration": model.restoration.clone(remat=True)} if model.restores else {}
    return model.clone(quality_encoder=encoder, **remade)
