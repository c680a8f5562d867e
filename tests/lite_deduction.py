"""A model of the form "deduction" at full size: real encoders, and a random head whose scores differ between images."""

import functools
import pathlib

import jax
import numpy as np
from PIL import Image
from tiny_model import random_params

from driqa_jax.checkpoints.load import LoadedModel, load
from driqa_jax.data.decode import decode
from driqa_jax.data.views import make_view
from driqa_jax.models.driqa import build_model
from driqa_jax.models.pretrained import imagenet_weights
from experiments.deduction.__main__ import HEAD, configuration
from experiments.deduction.features import RULE

PHOTOS = sorted((pathlib.Path(__file__).resolve().parent.parent / "examples" / "photos").glob("*.[jw]*"))
CALIBRATION = {"low": -0.1, "span": 1.2, "centre": 0.45, "width": 0.15}
INTERVAL = {"level": 0.9, "factor": 1.5, "floor": 0.02}


@functools.cache
def views_of_photos():
    """The views of the example photos, stacked."""
    views = [make_view(decode(path), RULE) for path in PHOTOS]
    return {name: np.stack([view[name] for view in views]) for name in views[0]}


@functools.cache
def model():
    """The module and its `LoadedModel`, whose weights are float16 numbers as those of a file."""
    lite = load("lite")
    # The recipe may widen its head; another random head would be steep elsewhere, and bounds are of this one.
    config = configuration(lite, {**HEAD, "drop_width": 256})
    net = build_model(config)
    params = random_params(net, seed=1)
    params["quality_encoder"]["backbone"] = imagenet_weights()[0]
    params["degradation_encoder"] = {
        name: lite.params["degradation_encoder"][name] for name in params["degradation_encoder"]
    }
    head = params["head"]
    head["drop_out"]["bias"] -= 4.5  # few drops, so that level and drops both matter
    head["level_out"]["bias"][:], head["level_out"]["kernel"] = 0.55, 0.3 * head["level_out"]["kernel"]
    _, out = apply(net, params, views_of_photos())
    for name, key in (("moments", "moments"), ("vectors", "vector"), ("cells", "cells")):
        values = np.asarray(out[key]).reshape(-1, out[key].shape[-1])
        head[f"standardize_{name}"] = {"shift": values.mean(axis=0), "scale": 1 / (values.std(axis=0) + 1e-2)}
    params = jax.tree.map(lambda x: np.asarray(x).astype(np.float16).astype(np.float32), params)
    metadata = {
        "format": "driqa_jax/1",
        "variant": "lite",
        "licence": "CC0-1.0",
        "config": config.to_dict(),
        "view": RULE.to_dict(),
        "calibration": CALIBRATION,
        "interval": INTERVAL,
        "degradations": list(config.types),
        "provenance": {"steps": 3},
    }
    return net, LoadedModel(params, metadata, None)


def apply(net, params, views):
    """mos and `out` of stacked views, image by image: one program per canvas."""
    rows = [
        jax.device_get(_program(net)(params, {name: value[i : i + 1] for name, value in views.items()}))
        for i in range(len(views["whole"]))
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *rows)


@functools.cache
def _program(net):
    def run(params, views):
        whole, tiles = (views[name].astype(np.float32) / 255.0 for name in ("whole", "tiles"))
        return net.apply({"params": params}, whole, views["valid"], tiles, views["tile_boxes"])

    return jax.jit(run)


def square_variants():
    """Images whose `whole` is 384x384: smaller, larger and tiny ones, gray, flat, noise and a checkerboard."""
    dog, rng = Image.open(PHOTOS[3]).convert("RGB"), np.random.default_rng(0)
    yield from (np.asarray(dog.resize((side, side + extra))) for side, extra in ((900, 5), (250, 3), (130, 0), (9, 0)))
    yield np.asarray(dog.convert("L").convert("RGB"))
    yield np.full((300, 300, 3), 90, np.uint8)
    yield rng.integers(0, 256, (400, 400, 3), dtype=np.uint8)
    yield np.tile(np.uint8([[0, 255], [255, 0]]), (200, 200))[..., None].repeat(3, axis=2)
    yield np.asarray(dog.crop((10, 20, 11, 21)))


def variants(count=50, seed=0):
    """Images made from the example photos: any size and shape, gray, tiny, noisy, flat."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        photo = Image.open(PHOTOS[number % len(PHOTOS)]).convert("RGB")
        longest = int(rng.choice([40, 150, 400, 512, 700, 1500]))
        aspect = float(rng.choice([1, 4 / 3, 1.5, 16 / 9, 3, 12]))
        size = longest, max(round(longest / aspect), 1)
        photo = np.asarray(photo.resize(size[:: rng.choice([1, -1])], Image.Resampling.LANCZOS))
        match number % 5:
            case 1:
                photo = np.repeat(photo.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
            case 2:
                photo = np.clip(photo + rng.normal(0, 25, photo.shape), 0, 255).astype(np.uint8)
            case 3:
                photo = (photo // 40 * 40).astype(np.uint8)
            case 4 if number % 2:
                photo = rng.integers(0, 256, photo.shape, dtype=np.uint8)
        yield photo
