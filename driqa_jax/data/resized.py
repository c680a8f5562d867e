"""A source whose pictures are brought to one height, as viewers saw them who were shown all at one size."""

from __future__ import annotations

import io

from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.data.open import Subset


class Resized(Subset):
    """The pictures of a source at `height` rows, aspect kept, by Lanczos resampling; encoded as BMP, without loss."""

    def __init__(self, source, height: int):
        super().__init__(source, range(len(source)), source.name)
        self._height = height

    def encoded(self, i: int) -> bytes:
        def resize(image: Image.Image) -> bytes:
            size = (max(1, round(image.width * self._height / image.height)), self._height)
            file = io.BytesIO()
            image.resize(size, Image.Resampling.LANCZOS).save(file, "BMP")
            return file.getvalue()

        return decode(super().encoded(i), name=str(self.column("image_id")[i]), use=resize)
