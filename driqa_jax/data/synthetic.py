"""Generated images of known quality, to try everything without a data set."""

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from driqa_jax.data.source import Source
from driqa_jax.io import image_bytes


class FakeSource(Source):
    """`count` generated square PNG images of side `size`; mos = 1 - severity of a blur or noise.

    Images 2n and 2n + 1 show one scene and form a group; every fifth scene is test. The index and seed determine the
    bytes.
    """

    def __init__(self, count: int = 64, size: int = 256, seed: int = 0, name: str = "fake"):
        self._size, self._seed = size, seed
        self._severity = np.array([self._stream(i).random() for i in range(count)])
        self._cache: dict[int, bytes] = {}
        super().__init__(
            name,
            1 - self._severity,
            image_id=[f"{name}/{i:05d}.png" for i in range(count)],
            group=[f"scene{i // 2:05d}" for i in range(count)],
            subset=["blur" if i % 2 else "noise" for i in range(count)],
            split=["test" if (i // 2) % 5 == 4 else "train" for i in range(count)],
        )

    def encoded(self, i: int) -> bytes:
        if i not in self._cache:
            self._cache[i] = image_bytes(Image.fromarray(self._draw(i)), "PNG", compress_level=1)
        return self._cache[i]

    def _stream(self, *path: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *path])

    def _draw(self, i: int) -> np.ndarray:
        scene, size = self._stream(1, i // 2), self._size
        image = np.full((size, size, 3), scene.random(3))
        for _ in range(24):
            y, x = scene.integers(0, size, 2)
            height, width = scene.integers(size // 16 + 1, size // 2 + 2, 2)
            image[y : y + height, x : x + width] = scene.random(3)
        severity = self._severity[i]
        if i % 2:
            image = uniform_filter(image, size=(1 + round(24 * severity),) * 2 + (1,))
        else:
            image = image + 0.35 * severity * self._stream(2, i).standard_normal(image.shape)
        return np.rint(image.clip(0, 1) * 255).astype(np.uint8)
